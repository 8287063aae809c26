//! Keeps what is remembered in a file, so that it survives a restart of the container.
//!
//! The file is written by a thread of its own, which ends after that: the loop waits for no disk. No error here ends
//! the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use log::{info, warn};

use crate::file;
use crate::history::{self, MAX_HISTORY, Recollection};
use crate::name::NodeName;
use crate::state::Moment;

/// The file's name in the state directory.
const FILE: &str = "history";
/// The file that is written and then renamed.
const TEMPORARY: &str = ".history.new";
/// Stack of the thread, which uses less than 8 KiB in a release build.
const STACK: usize = if cfg!(debug_assertions) { 256 * 1024 } else { 64 * 1024 };

/// Reads and writes the file; without a state directory it does neither. Clones share it.
#[derive(Clone)]
pub(super) struct Recorder(Option<Arc<Inner>>);

struct Inner {
    path: PathBuf,
    node: NodeName,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is written next: the last one that was to be saved.
    waiting: Option<Arc<Recollection>>,
    /// There is a thread that writes.
    has_writer: bool,
    /// The last thread, which may have ended.
    thread: Option<JoinHandle<()>>,
    /// The last attempt failed.
    failing: bool,
}

impl Recorder {
    /// For the file of a node in the directory `dir`.
    pub(super) fn new(dir: Option<&Path>, node: NodeName) -> Self {
        let inner = |dir: &Path| Inner { path: dir.join(FILE), node, state: Mutex::default() };
        Self(dir.map(inner).map(Arc::new))
    }

    /// What the file holds, if it can be used. Logs why it cannot.
    pub(super) fn read(&self, now: Moment) -> Option<Recollection> {
        let inner = self.0.as_ref()?;
        let path = inner.path.display();
        let bytes = match file::read_own(&inner.path, MAX_HISTORY as u64) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!("history: {path} is not used: {error}");
                return None;
            }
        };
        match history::decode(&inner.node, &bytes, now) {
            Ok(recollection) => {
                let (spans, paths) = (recollection.spans.len(), recollection.paths().count());
                info!("history: {spans} times of {paths} peers from {path}");
                Some(recollection)
            }
            Err(error) => {
                warn!("history: {path} is not used: {error}");
                None
            }
        }
    }

    /// Saves this soon, and never blocks. One that still waits is replaced.
    pub(super) fn save(&self, recollection: Arc<Recollection>) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.lock();
        state.waiting = Some(recollection);
        if state.has_writer {
            return;
        }
        let writer = Arc::clone(inner);
        let thread = thread::Builder::new().name("history".to_owned()).stack_size(STACK);
        match thread.spawn(move || writer.write_all()) {
            Ok(thread) => {
                state.has_writer = true;
                state.thread = Some(thread);
            }
            Err(error) => {
                state.waiting = None;
                inner.note(&mut state, Err(error));
            }
        }
    }

    /// The thread that still writes, if any.
    pub(super) fn writer(&self) -> Option<JoinHandle<()>> {
        self.0.as_ref()?.lock().thread.take()
    }
}

impl Inner {
    /// Writes until nothing waits.
    fn write_all(&self) {
        let mut state = self.lock();
        while let Some(recollection) = state.waiting.take() {
            // The lock is held for no I/O.
            drop(state);
            let result = self.write(&recollection);
            drop(recollection);
            state = self.lock();
            self.note(&mut state, result);
        }
        state.has_writer = false;
    }

    fn write(&self, recollection: &Recollection) -> io::Result<()> {
        let temporary = self.path.with_file_name(TEMPORARY);
        file::replace(&self.path, &temporary, &mut |file| {
            history::encode(&self.node, recollection, file)
        })
    }

    /// Logs the first of several failures in a row, and when saving works again.
    fn note(&self, state: &mut State, result: io::Result<()>) {
        let path = self.path.display();
        let was_failing = std::mem::replace(&mut state.failing, result.is_err());
        match result {
            Ok(()) if was_failing => info!("history: writing {path} works again"),
            Err(error) if !was_failing => warn!("history: write {path}: {error}"),
            _ => {}
        }
    }

    // A poisoned lock is usable: the state is valid after every statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
