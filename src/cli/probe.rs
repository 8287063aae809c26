//! `wylis probe`: single probes of any agent, like ping. It tells nobody who asks, so that the other
//! side counts it against no peer, and leaves the local agent alone.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::arguments::Given;
use super::paint::{Colour, Paint};
use super::{Ending, say, span};
use crate::probe::{KernelView, Outcome};
use crate::prober::{ProbeResult, probe_once};

/// How long Ctrl-C waits for a line that is being written.
const PATIENCE: Duration = Duration::from_secs(1);

/// One address of a host.
pub(super) fn resolve(target: &str) -> Result<SocketAddr, Ending> {
    let failed = |why: String| Ending::Failed(format!("{target} has no address: {why}"));
    let mut addresses = target.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    addresses.next().ok_or_else(|| failed("the name server knows none".to_owned()))
}

/// `exit` tells the code with which Ctrl-C ends the process.
pub(super) fn run(given: &Given, paint: Paint, exit: fn(&Ending) -> u8) -> Result<Ending, Ending> {
    let address = resolve(&given.target)?;
    let summary = Arc::new(Mutex::new(Summary::default()));
    let shared = Arc::clone(&summary);
    ctrlc::set_handler(move || {
        // Held until the end: no line may follow the summary.
        let Some(summary) = lock_within(&shared, PATIENCE) else {
            // It is held by a line that nobody reads, and so would the summary be.
            std::process::exit(exit(&Ending::Failed(String::new())).into())
        };
        let ended = say(&summary.shown()).map_or_else(|ending| ending, |()| summary.ending());
        std::process::exit(exit(&ended).into());
    })
    .map_err(|error| Ending::Failed(format!("handle Ctrl-C: {error}")))?;
    let mut next = Instant::now();
    for made in 1_u64.. {
        let asking = probe_once(address, given.timeout);
        let mut summary = lock(&summary);
        summary.add(&asking);
        say(&line(&asking, address, paint))?;
        if made == u64::from(given.count) {
            break;
        }
        drop(summary);
        next = (next + given.interval).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let summary = lock(&summary);
    say(&summary.shown())?;
    Ok(summary.ending())
}

// What the lock guards is whole after every statement.
fn lock(summary: &Mutex<Summary>) -> MutexGuard<'_, Summary> {
    summary.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock, unless it is held for all that time.
fn lock_within(summary: &Mutex<Summary>, time: Duration) -> Option<MutexGuard<'_, Summary>> {
    let until = Instant::now() + time;
    loop {
        match summary.try_lock() {
            Ok(summary) => return Some(summary),
            Err(TryLockError::Poisoned(error)) => return Some(error.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// One probe in one line.
pub(super) fn line((result, kernel): &ProbeResult, address: SocketAddr, paint: Paint) -> String {
    let kernel = kernel.unwrap_or_default();
    match result {
        Ok((node, timings, answer)) => {
            let draining = if answer.draining { ", draining" } else { "" };
            let KernelView { retransmits, rtt, path_mtu } = kernel;
            let rtt = rtt.map(|rtt| format!(", rtt {}", span(rtt))).unwrap_or_default();
            let mtu = path_mtu.map(|mtu| format!(", mtu {mtu}")).unwrap_or_default();
            format!(
                "{} at {address}: connect {}, response {}, total {}, retransmits {retransmits}{rtt}\
                 {mtu}{draining}\n",
                paint.cell(node.as_str(), 0, Some(Colour::Green)),
                span(timings.connect),
                span(timings.response),
                span(timings.total),
            )
        }
        Err(outcome) => {
            let why = match outcome {
                Outcome::Failure(reason) => format!("{reason} ({})", reason.phase().as_str()),
                Outcome::Local(error) => format!("not made, a fault of this host: {error}"),
                Outcome::Success { .. } => String::new(),
            };
            let why = paint.cell(&why, 0, Some(Colour::Red));
            format!("{address}: {why}, retransmits {}\n", kernel.retransmits)
        }
    }
}

/// All probes together.
#[derive(Debug, Default)]
pub(super) struct Summary {
    succeeded: u32,
    failed: u32,
    /// Faults of our own: nothing is known of the other side.
    local: u32,
    retransmits: u32,
    /// Total times of the successes: the least, the most, their sum.
    least: Option<Duration>,
    most: Duration,
    sum: Duration,
}

impl Summary {
    pub(super) fn add(&mut self, (result, kernel): &ProbeResult) {
        match result {
            Ok((_, timings, _)) => {
                let total = timings.total;
                self.succeeded += 1;
                self.least = Some(self.least.map_or(total, |least| least.min(total)));
                self.most = self.most.max(total);
                self.sum += total;
            }
            Err(Outcome::Local(_)) => self.local += 1,
            Err(_) => self.failed += 1,
        }
        self.retransmits += kernel.map_or(0, |kernel| kernel.retransmits);
    }

    fn made(&self) -> u32 {
        self.succeeded + self.failed + self.local
    }

    pub(super) fn shown(&self) -> String {
        let Self { failed, retransmits, .. } = self;
        let mut text =
            format!("{} probes, {failed} failed, {retransmits} retransmits", self.made());
        if self.local > 0 {
            put!(text, ", {} not made", self.local);
        }
        if let Some(least) = self.least {
            let mean = self.sum / self.succeeded.max(1);
            let [least, mean, most] = [least, mean, self.most].map(span);
            put!(text, "; total least {least}, mean {mean}, most {most}");
        }
        text + "\n"
    }

    pub(super) fn ending(&self) -> Ending {
        match (self.failed, self.succeeded) {
            (0, 0) => Ending::Failed("no probe was made".to_owned()),
            (0, _) => Ending::Healthy,
            _ => Ending::Unhealthy,
        }
    }
}
