//! Keeps what is remembered in a file, so that it survives a restart of the container.
//!
//! The file is written by a thread of its own, which ends after that: the loop waits for no disk. No error here ends
//! the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::file;
use crate::history::{self, MAX_HISTORY, Recollection};
use crate::matrix::unix_millis;
use crate::name::NodeName;
use crate::state::Moment;

/// The file's name in the state directory.
const FILE: &str = "history";
/// The file that is written and then renamed.
const TEMPORARY: &str = ".history.new";
/// Longest time without a save: a crash loses no more, also where cells are longer. A little more than a cell of 5
/// minutes, which is saved when it closes.
const SAVE_INTERVAL: Duration = Duration::from_secs(305);
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
    waiting: Option<Recollection>,
    /// There is a thread that writes.
    has_writer: bool,
    /// The last thread, which may have ended.
    thread: Option<JoinHandle<()>>,
    /// The last attempt failed.
    failing: bool,
    /// When the last save was asked for.
    saved: Option<Instant>,
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
                let now = unix_millis(now.wall) / 1000;
                let age = now.saturating_sub(recollection.since().unwrap_or(now));
                info!("history: {path} reaches back {} min", age / 60);
                Some(recollection)
            }
            Err(error) => {
                warn!("history: {path} is not used: {error}");
                None
            }
        }
    }

    /// Whether nothing was saved for so long that it is time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let is_old = |saved| now.saturating_duration_since(saved) >= SAVE_INTERVAL;
        self.0.as_ref().is_some_and(|inner| inner.lock().saved.is_none_or(is_old))
    }

    /// Saves this soon, and never blocks. One that still waits is replaced.
    pub(super) fn save(&self, now: Instant, recollect: impl FnOnce() -> Recollection) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.lock();
        state.saved = Some(now);
        let replaced = state.waiting.replace(recollect());
        if state.has_writer {
            if replaced.is_some() {
                // Since the last save but one: the disk hangs.
                inner.note(&mut state, Err(io::Error::other("an earlier write has not ended")));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Cell, CellTime, Span};
    use wylis_harness::TempDir;

    fn recorder(dir: &Path) -> Recorder {
        Recorder::new(Some(dir), NodeName::new("a").unwrap())
    }

    /// One cell that begins then, in Unix seconds.
    fn recollection(from: u64) -> Recollection {
        let time = CellTime { from, seconds: 300, is_repeated: false };
        Recollection {
            taken: Moment::now(),
            names: Arc::new(vec![NodeName::new("b").ok()]),
            spans: vec![Span { time, cells: [Cell::EMPTY].into_iter().collect() }],
            changes: Vec::new(),
        }
    }

    fn end(recorder: &Recorder) {
        let thread = recorder.writer().unwrap();
        assert_eq!(thread.thread().name(), Some("history"));
        thread.join().unwrap();
        assert!(!recorder.0.as_ref().unwrap().lock().has_writer);
    }

    fn begin_of(recorder: &Recorder) -> Option<u64> {
        recorder.read(Moment::now()).map(|recollection| recollection.spans[0].time.from)
    }

    #[test]
    fn what_was_saved_last_is_read_again() {
        let dir = TempDir::new("history");
        let recorder = recorder(dir.path());
        assert_eq!(begin_of(&recorder), None);
        // Most of them while another one is written.
        for from in 1..=200 {
            recorder.save(Instant::now(), || recollection(from));
        }
        end(&recorder);
        assert_eq!(begin_of(&recorder), Some(200));
        recorder.save(Instant::now(), || recollection(201));
        end(&recorder);
        assert_eq!(begin_of(&recorder), Some(201));
        let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");
    }

    #[test]
    fn without_a_state_directory_nothing_is_read_or_written() {
        let recorder = Recorder::new(None, NodeName::new("a").unwrap());
        recorder.save(Instant::now(), || unreachable!("there is no directory"));
        assert!(recorder.writer().is_none() && recorder.read(Moment::now()).is_none());
    }

    #[test]
    fn a_failure_is_known_until_a_write_succeeds() {
        let dir = TempDir::new("history");
        let recorder = recorder(&dir.path().join("later"));
        let is_failing = || recorder.0.as_ref().unwrap().lock().failing;
        for _ in 0..2 {
            recorder.save(Instant::now(), || recollection(1));
            end(&recorder);
            assert!(is_failing());
        }
        std::fs::create_dir(dir.path().join("later")).unwrap();
        recorder.save(Instant::now(), || recollection(2));
        end(&recorder);
        assert!(!is_failing());
        assert_eq!(begin_of(&recorder), Some(2));
    }

    #[test]
    fn a_crash_loses_little_more_than_five_minutes_whatever_the_length_of_a_cell() {
        let dir = TempDir::new("history");
        let (recorder, now) = (recorder(dir.path()), Instant::now());
        assert!(recorder.is_due(now));
        recorder.save(now, || recollection(1));
        end(&recorder);
        assert!(!recorder.is_due(now + Duration::from_secs(301)), "at the end of the cell");
        assert!(recorder.is_due(now + SAVE_INTERVAL));
        assert!(!Recorder::new(None, NodeName::new("a").unwrap()).is_due(now + SAVE_INTERVAL));
    }

    #[test]
    fn a_write_that_hangs_holds_up_no_save_and_is_known_until_it_ends() {
        let dir = TempDir::new("history");
        let recorder = recorder(dir.path());
        let inner = recorder.0.as_ref().unwrap();
        // As if a thread were at the disk.
        inner.lock().has_writer = true;
        for (from, failing) in [(1, false), (2, true), (3, true)] {
            recorder.save(Instant::now(), || recollection(from));
            assert_eq!(inner.lock().failing, failing, "{from}");
        }
        assert!(recorder.writer().is_none(), "no second thread");
        // The disk is back: the newest is written, the others are gone.
        inner.write_all();
        assert!(!inner.lock().failing && inner.lock().waiting.is_none());
        assert_eq!(begin_of(&recorder), Some(3));
    }

    #[test]
    fn a_file_that_cannot_be_read_or_is_too_long_is_not_used() {
        let dir = TempDir::new("history");
        let path = dir.path().join(FILE);
        let recorder = recorder(dir.path());
        std::fs::create_dir(&path).unwrap();
        assert_eq!(begin_of(&recorder), None);
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, vec![0; MAX_HISTORY + 1]).unwrap();
        assert_eq!(begin_of(&recorder), None);
        // It is replaced.
        recorder.save(Instant::now(), || recollection(1));
        end(&recorder);
        assert_eq!(begin_of(&recorder), Some(1));
    }
}
