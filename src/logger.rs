//! The log: formats records as env_logger does, and never blocks a thread that logs.
//!
//! Lines wait in a bounded queue. A thread of its own writes them; it starts with the first line and ends
//! when there has been none for a while. If the host allows no thread, the caller writes what standard
//! error takes without blocking. Lines that repeat are summed up ([`limiter`]); lines that are lost are
//! counted, and one line says how many when lines are written again.

mod limiter;
mod queue;

use std::fmt::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};

use limiter::{Admission, Limiter};
use queue::{Attempt, Enqueue, Queue};
pub use queue::{Loss, Losses};

/// Bytes of one message: the longest names and paths fit. With its header a line stays below PIPE_BUF
/// (4 KiB), which a pipe takes as a whole.
const MAX_MESSAGE: usize = 1024;
/// Bytes of the message that stands for its repeats.
const MAX_EXAMPLE: usize = 120;
/// env_logger indents the further lines of a message by so many spaces.
const INDENT: usize = 4;
/// Idle time after which the writer ends.
const IDLE: Duration = Duration::from_secs(5);
/// Stack of the writer, which formats two kinds of lines of its own.
const STACK: usize = if cfg!(debug_assertions) { 256 * 1024 } else { 64 * 1024 };

/// Installs the process' only logger, with a valid filter, and a hook that logs panics. Returns the numbers
/// of lines lost.
pub fn start(filter: &str) -> Arc<Losses> {
    let logger = Logger::new(filter, Box::new(std::io::stderr()));
    let losses = Arc::clone(logger.0.queue.losses());
    log::set_max_level(logger.0.format.filter());
    log::set_boxed_logger(Box::new(logger)).expect("main starts one logger");
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        log::error!("thread {:?} failed: {panic}", thread.name().unwrap_or("unnamed"));
        // `panic = "abort"` ends the process next.
        log::logger().flush();
    }));
    losses
}

/// The process' logger. [`Log::flush`] gives the last lines of the process a bounded time.
struct Logger(Arc<Shared>);

/// What the threads that log share with the writer.
struct Shared {
    format: env_logger::Logger,
    queue: Arc<Queue>,
    limiter: Mutex<Limiter<Example>>,
    hasher: std::hash::RandomState,
}

/// The first of several repeated lines.
struct Example {
    level: Level,
    target: &'static str,
    text: String,
}

impl Logger {
    fn new(filter: &str, target: Box<dyn AsFd + Send + Sync>) -> Self {
        let queue = Arc::new(Queue::new(target));
        let output = env_logger::Target::Pipe(Box::new(Enqueue(Arc::clone(&queue))));
        let format = env_logger::Builder::new()
            // tiny_http logs the planned end of its accept thread as an error; the gate supervises it.
            .filter_module("tiny_http", LevelFilter::Off)
            .parse_filters(filter)
            .target(output)
            .build();
        let limiter = Limiter::new();
        let hasher = limiter.hasher();
        Self(Arc::new(Shared { format, queue, limiter: Mutex::new(limiter), hasher }))
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.format.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.0.format.matches(record) {
            return;
        }
        // The debug level shows every line to an operator who asks for it; the queue bounds it.
        let admission =
            if record.level() > Level::Info { Admission::Write } else { self.0.admit(record) };
        if admission == Admission::Write {
            self.0.write(record.level(), record.target(), record.args());
        }
        if admission != Admission::Count {
            self.0.start_writer();
        }
    }

    fn flush(&self) {
        // All repeats, whose windows have not passed.
        self.0.report(Instant::now() + limiter::WINDOW);
        self.0.queue.flush();
    }
}

impl Shared {
    /// Decides whether a record is written or counted as a repeat.
    fn admit(&self, record: &Record<'_>) -> Admission {
        // Texts are formatted outside the lock: one that panics logs that.
        let site = (record.file().unwrap_or_default(), record.line());
        let key = limiter::key(&self.hasher, site, record.args());
        let now = Instant::now();
        let admission = self.limiter().admit(key, now);
        if let Admission::CountFirst(site) = admission {
            let example = Example {
                level: record.level(),
                target: record.module_path_static().unwrap_or(env!("CARGO_PKG_NAME")),
                text: Cut(record.args(), MAX_EXAMPLE).to_string(),
            };
            self.limiter().begin(site, example, now);
        }
        if admission != Admission::Write {
            self.queue.losses().add(Loss::Repeated);
        }
        admission
    }

    /// Formats and queues a line.
    fn write(&self, level: Level, target: &str, message: &fmt::Arguments<'_>) {
        let message = Cut(message, MAX_MESSAGE);
        let mut record = Record::builder();
        self.format
            .log(&record.level(level).target(target).args(format_args!("{message}")).build());
    }

    /// Starts the writer, unless there is one. Called without a lock.
    fn start_writer(self: &Arc<Self>) {
        if !self.queue.claim_writer() {
            return;
        }
        let shared = Arc::clone(self);
        let builder = thread::Builder::new().name("log".to_owned()).stack_size(STACK);
        if builder.spawn(move || shared.run_writer()).is_err() {
            self.queue.release_writer();
            self.write_ready();
        }
    }

    /// Writes on the calling thread what standard error takes without blocking. A host that allows no
    /// thread is one whose log is needed.
    fn write_ready(&self) {
        while self.queue.write_next(Some(Duration::ZERO)) == Attempt::Done {}
        self.report(Instant::now());
        while self.queue.write_next(Some(Duration::ZERO)) == Attempt::Done {}
    }

    /// The writer: blocks in writes, and ends when it has been idle and no repeats are to be summed up.
    fn run_writer(&self) {
        let mut idle_at = Instant::now() + IDLE;
        loop {
            while self.queue.write_next(None) == Attempt::Done {
                idle_at = Instant::now() + IDLE;
            }
            let next_report = self.report(Instant::now());
            if self.queue.wait_for_line(next_report.unwrap_or(idle_at)) || next_report.is_some() {
                continue;
            }
            if self.queue.retire_writer() {
                return;
            }
        }
    }

    /// Queues the lines about repeats that are due and about lost lines. Returns when the next one is due.
    fn report(&self, now: Instant) -> Option<Instant> {
        if let Some(lost) = self.queue.take_unreported() {
            self.write(
                Level::Warn,
                module_path!(),
                &format_args!("{lost} log lines were dropped: standard error did not take them"),
            );
        }
        loop {
            let mut limiter = self.limiter();
            let Some(repeats) = limiter.take_due(now) else { return limiter.next_due() };
            drop(limiter);
            let (count, Example { level, target, text }) = (repeats.count, repeats.example);
            let seconds = limiter::WINDOW.as_secs();
            self.write(
                level,
                target,
                &format_args!("… and {count} more lines like it in the last {seconds} s: {text}"),
            );
        }
    }

    // A poisoned lock is usable: the limiter is valid after every statement.
    fn limiter(&self) -> std::sync::MutexGuard<'_, Limiter<Example>> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a message that was too long.
const CUT: &str = "… (cut)";

/// A message, cut at a number of bytes, indentation included.
struct Cut<'a>(&'a fmt::Arguments<'a>, usize);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.1.saturating_sub(CUT.len());
        let mut rest = Rest { out: f, left, is_cut: false };
        match write!(rest, "{}", self.0) {
            Err(_) if rest.is_cut => f.write_str(CUT),
            result => result,
        }
    }
}

struct Rest<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
    is_cut: bool,
}

impl fmt::Write for Rest<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = 0;
        for character in text.chars() {
            let cost = character.len_utf8() + if character == '\n' { INDENT } else { 0 };
            self.is_cut = cost > self.left;
            if self.is_cut {
                break;
            }
            self.left -= cost;
            end += character.len_utf8();
        }
        self.out.write_str(text.get(..end).unwrap_or_default())?;
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
