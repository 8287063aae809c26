//! The lines that wait for standard error, and the writes. It knows nothing of records.
//!
//! One thread at a time writes, and the lock is never held meanwhile. Standard error stays in its mode:
//! O_NONBLOCK would apply to every process that shares it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::label::label_set;

/// Bytes of the lines that wait, with [`LINE_OVERHEAD`]: some 450 lines. As much as a pipe of Linux
/// holds; it doubles the time for which a reader may pause.
const CAPACITY: usize = 64 * 1024;
/// What a short line costs beside its bytes: its place in the queue and malloc's header.
const LINE_OVERHEAD: usize = 48;
/// A write that takes longer has stalled: a reader that lives takes microseconds.
const STALLED: Duration = Duration::from_millis(100);
/// How long the end of the process waits for the last lines, while they are being read.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(500);

label_set! {
    /// Why a line was not written.
    pub enum Loss {
        /// Standard error is not read, or too slowly: the queue was full.
        QueueFull = "queue_full",
        /// The write failed: standard error is closed, or its disk is full.
        WriteFailed = "write_failed",
        /// Too many of its kind; one line sums them up.
        Repeated = "repeated",
    }
}

/// The numbers of lines that were not written.
#[derive(Debug, Default)]
pub struct Losses([AtomicU64; Loss::ALL.len()]);

impl Losses {
    pub(super) fn add(&self, reason: Loss) {
        let counts = Loss::ALL.into_iter().zip(&self.0);
        counts.filter(|(known, _)| *known == reason).for_each(|(_, count)| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// Each reason with its number of lines.
    pub fn counts(&self) -> impl Iterator<Item = (Loss, u64)> {
        Loss::ALL
            .into_iter()
            .zip(&self.0)
            .map(|(loss, count)| (loss, count.load(Ordering::Relaxed)))
    }
}

/// The queue.
pub(super) struct Queue {
    /// Standard error; a pipe in tests.
    target: Box<dyn AsFd + Send + Sync>,
    losses: Arc<Losses>,
    state: Mutex<State>,
    /// A line came, or a write ended.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    /// The cost of `lines`.
    bytes: usize,
    /// The start of the write in progress.
    writing_since: Option<Instant>,
    /// The last write failed.
    failing: bool,
    /// Lines lost since the last line about it.
    unreported: u64,
    /// There is a thread that writes.
    has_writer: bool,
}

/// What became of an attempt to write one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// One line was written, or lost for good.
    Done,
    /// No line waits, or another thread writes.
    Nothing,
    /// Standard error did not take the line in time; it waits.
    NotReady,
}

impl Queue {
    pub(super) fn new(target: Box<dyn AsFd + Send + Sync>) -> Self {
        let losses = Arc::default();
        Self { target, losses, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The cost of the lines that wait.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(super) fn losses(&self) -> &Arc<Losses> {
        &self.losses
    }

    /// Queues a line, or counts it as lost. Never blocks.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        let bytes = state.bytes + line.len() + LINE_OVERHEAD;
        if bytes > CAPACITY {
            self.lose(&mut state, Loss::QueueFull);
            return;
        }
        state.bytes = bytes;
        state.lines.push_back(line.into());
        drop(state);
        self.changed.notify_all();
    }

    /// Whether the caller is to start the writer thread: there is none.
    pub(super) fn claim_writer(&self) -> bool {
        !std::mem::replace(&mut self.lock().has_writer, true)
    }

    /// The writer thread could not start.
    pub(super) fn release_writer(&self) {
        self.lock().has_writer = false;
    }

    /// The writer thread ends, unless a line waits.
    pub(super) fn retire_writer(&self) -> bool {
        let mut state = self.lock();
        let retires = state.lines.is_empty();
        if retires {
            state.has_writer = false;
            state.lines = VecDeque::new();
        }
        retires
    }

    /// Waits for a line to write, until `deadline`; false if none came.
    pub(super) fn wait_for_line(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        loop {
            if state.writing_since.is_none() && !state.lines.is_empty() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.wait(state, left);
        }
    }

    /// Writes one line. With a `patience`, only if standard error takes it without blocking within that
    /// time: a pipe that is ready takes PIPE_BUF (4 KiB) bytes at once, more than any line has.
    pub(super) fn write_next(&self, patience: Option<Duration>) -> Attempt {
        let mut state = self.lock();
        if state.writing_since.is_some() || state.lines.is_empty() {
            return Attempt::Nothing;
        }
        state.writing_since = Some(Instant::now());
        drop(state);
        let line = match patience {
            Some(limit) if !self.is_ready(Some(limit)) => None,
            _ => self.pop(),
        };
        let result = line.map(|line| self.write_all(&line, patience));
        let mut state = self.lock();
        state.writing_since = None;
        let attempt = match result {
            None => Attempt::NotReady,
            Some(written) => {
                state.failing = !written;
                if !written {
                    self.lose(&mut state, Loss::WriteFailed);
                }
                Attempt::Done
            }
        };
        drop(state);
        self.changed.notify_all();
        attempt
    }

    /// The lines lost since the last call, once lines are written again.
    pub(super) fn take_unreported(&self) -> Option<u64> {
        let mut state = self.lock();
        let flows = !state.failing && state.lines.is_empty();
        (flows && state.unreported > 0).then(|| std::mem::take(&mut state.unreported))
    }

    /// Writes what waits, on the calling thread or by waiting for the one that writes: up to
    /// [`LAST_WORDS`] while lines are read, and up to [`STALLED`] for a line that is not.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self.write_next(Some(STALLED.min(left))) {
                Attempt::Done => continue,
                Attempt::NotReady => return,
                Attempt::Nothing => {}
            }
            let state = self.lock();
            let Some(since) = state.writing_since else {
                if state.lines.is_empty() {
                    return;
                }
                continue;
            };
            let stalls = (since + STALLED).saturating_duration_since(Instant::now());
            // A writer that is late although its write would not block is short of CPU.
            if stalls.is_zero() && !self.is_ready(Some(Duration::ZERO)) {
                return;
            }
            let limit = if stalls.is_zero() { STALLED } else { stalls };
            drop(self.wait(state, limit.min(left)));
        }
    }

    fn pop(&self) -> Option<Box<[u8]>> {
        let mut state = self.lock();
        let line = state.lines.pop_front()?;
        state.bytes = state.bytes.saturating_sub(line.len() + LINE_OVERHEAD);
        Some(line)
    }

    fn lose(&self, state: &mut State, reason: Loss) {
        state.unreported = state.unreported.saturating_add(1);
        self.losses.add(reason);
    }

    /// Whether the whole line was written.
    fn write_all(&self, mut line: &[u8], patience: Option<Duration>) -> bool {
        while !line.is_empty() {
            match rustix::io::write(&self.target, line) {
                Ok(0) => return false,
                Ok(written) => line = line.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Another process has set O_NONBLOCK.
                Err(Errno::AGAIN) if self.is_ready(patience) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether a write would not block, within `patience`. An error counts as ready: the write reports it.
    fn is_ready(&self, patience: Option<Duration>) -> bool {
        let timeout = patience.and_then(|limit| Timespec::try_from(limit).ok());
        loop {
            let mut descriptors = [PollFd::new(&self.target, PollFlags::OUT)];
            match poll(&mut descriptors, timeout.as_ref()) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    // A poisoned lock is usable: the state is valid after every statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Queues what env_logger formats: one call for each record.
pub(super) struct Enqueue(pub(super) Arc<Queue>);

impl io::Write for Enqueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
