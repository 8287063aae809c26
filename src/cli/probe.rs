//! `wylis probe`: single probes of any agent, like ping. They name no sender, so that the target
//! counts them for no peer, and they do not involve the local agent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::arguments::Options;
use super::exit::Exit;
use super::fetch::resolve;
use super::paint::{Colour, Paint};
use super::{format_time, print};
use crate::document::{ProbeDocument, VERSION};
use crate::name::NodeName;
use crate::probe::{KernelView, Outcome, Phase};
use crate::prober::{ProbeResult, probe_once};

/// How long Ctrl-C waits for a line that is being written.
const CTRL_C_WAIT: Duration = Duration::from_secs(1);

pub(super) fn run(options: &Options, paint: Paint) -> Result<Exit, Exit> {
    let mut addresses = resolve(&options.target)?;
    let json = options.json;
    let summary = Arc::new(Mutex::new(Summary::default()));
    let shared = Arc::clone(&summary);
    ctrlc::set_handler(move || exit_with_summary(&shared, json))
        .map_err(|error| Exit::Failed(format!("handle Ctrl-C: {error}")))?;
    let mut next = Instant::now();
    for made in 1_u64.. {
        let attempts = probe_in_order(&mut addresses, options.timeout);
        let mut summary = lock(&summary);
        combine(&attempts).inspect(|result| summary.add(result));
        summary.address = attempts.last().map(|(address, _)| *address);
        for (address, result) in attempts {
            if !json {
                print(&render(&result, address, paint))?;
            }
        }
        if made == u64::from(options.count) {
            break;
        }
        drop(summary);
        next = (next + options.interval).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let summary = lock(&summary);
    print(&summary.render_as(json))?;
    Ok(summary.exit())
}

/// Probes the addresses in order until one connects. Then it removes the others, so that later probes use
/// that one.
pub(super) fn probe_in_order(
    addresses: &mut Vec<SocketAddr>,
    timeout: Duration,
) -> Vec<(SocketAddr, ProbeResult)> {
    let mut attempts = Vec::new();
    for &address in &*addresses {
        let result = probe_once(address, timeout);
        let connected = match &result.0 {
            Ok(_) => true,
            Err(Outcome::Failure(reason)) => reason.phase() != Phase::Connect,
            Err(_) => false,
        };
        attempts.push((address, result));
        if connected {
            *addresses = vec![address];
            break;
        }
    }
    attempts
}

/// The result of a probe of several addresses: that of the last one, but a local error only if all of
/// them are local.
pub(super) fn combine(attempts: &[(SocketAddr, ProbeResult)]) -> Option<&ProbeResult> {
    let results = attempts.iter().map(|(_, result)| result);
    results.max_by_key(|(result, _)| !matches!(result, Err(Outcome::Local(_))))
}

/// Handles Ctrl-C. Holds the lock until the process ends, so that no line follows the summary.
fn exit_with_summary(summary: &Mutex<Summary>, json: bool) {
    let summary = lock_within(summary, CTRL_C_WAIT);
    let exit = match &summary {
        Some(summary) => {
            print(&summary.render_as(json)).map_or_else(|exit| exit, |()| summary.exit())
        }
        // The output is blocked, and would block the summary as well.
        None => Exit::Failed("write to standard output: blocked".to_owned()),
    };
    std::process::exit(exit.code().into());
}

// A poisoned lock is usable: the summary is consistent after every statement.
fn lock(summary: &Mutex<Summary>) -> MutexGuard<'_, Summary> {
    summary.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock, or `None` if it is not free within `time`.
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

/// Renders one probe as a line.
pub(super) fn render((result, kernel): &ProbeResult, address: SocketAddr, paint: Paint) -> String {
    let kernel = kernel.unwrap_or_default();
    match result {
        Ok((node, timings, answer)) => {
            let draining = if answer.draining { ", draining" } else { "" };
            let KernelView { retransmits, rtt, path_mtu, .. } = kernel;
            let rtt = rtt.map(|rtt| format!(", rtt {}", format_time(rtt))).unwrap_or_default();
            let mtu = path_mtu.map(|mtu| format!(", mtu {mtu}")).unwrap_or_default();
            format!(
                "{} at {address}: connect {}, response {}, total {}, retransmits {retransmits}{rtt}\
                 {mtu}{draining}\n",
                paint.cell(node.as_str(), 0, Some(Colour::Green)),
                format_time(timings.connect),
                format_time(timings.response),
                format_time(timings.total),
            )
        }
        Err(outcome) => {
            let failure = match outcome {
                Outcome::Failure(reason) => format!("{reason} ({})", reason.phase().as_str()),
                Outcome::Local(error) => format!("not sent, local error {error}"),
                Outcome::Success { .. } => String::new(),
            };
            let failure = paint.cell(&failure, 0, Some(Colour::Red));
            format!("{address}: {failure}, retransmits {}\n", kernel.retransmits)
        }
    }
}

/// The sums of all probes.
#[derive(Debug, Default)]
pub(super) struct Summary {
    succeeded: u32,
    failed: u32,
    /// Probes that failed on this host and say nothing about the target.
    local: u32,
    retransmits: u32,
    /// Total times of the successes.
    min: Option<Duration>,
    max: Duration,
    sum: Duration,
    /// The address that was probed last.
    pub(super) address: Option<SocketAddr>,
    /// The node that answered last.
    node: Option<NodeName>,
}

impl Summary {
    pub(super) fn add(&mut self, (result, kernel): &ProbeResult) {
        match result {
            Ok((node, timings, _)) => {
                let total = timings.total;
                self.node = Some(node.clone());
                self.succeeded += 1;
                self.min = Some(self.min.map_or(total, |min| min.min(total)));
                self.max = self.max.max(total);
                self.sum += total;
            }
            Err(Outcome::Local(_)) => self.local += 1,
            Err(_) => self.failed += 1,
        }
        self.retransmits += kernel.map_or(0, |kernel| kernel.retransmits);
    }

    /// As one JSON document, or as a line.
    fn render_as(&self, json: bool) -> String {
        if json {
            return self.document().json();
        }
        self.render()
    }

    pub(super) fn document(&self) -> ProbeDocument {
        let seconds = |time: Duration| self.min.map(|_| time.as_secs_f64());
        ProbeDocument {
            version: VERSION,
            address: self.address.map(|address| address.to_string()).unwrap_or_default(),
            node: self.node.as_ref().map(ToString::to_string),
            probes: self.succeeded + self.failed + self.local,
            failed: self.failed,
            not_sent: self.local,
            retransmits: self.retransmits,
            min_seconds: self.min.and_then(seconds),
            mean_seconds: seconds(self.sum / self.succeeded.max(1)),
            max_seconds: seconds(self.max),
            mtu: None,
            flows: None,
        }
    }

    pub(super) fn render(&self) -> String {
        let Self { succeeded, failed, local, retransmits, .. } = self;
        let probes = succeeded + failed + local;
        let mut text = format!("{probes} probes, {failed} failed, {retransmits} retransmits");
        if *local > 0 {
            put!(text, ", {local} not sent");
        }
        if let Some(min) = self.min {
            let mean = self.sum / self.succeeded.max(1);
            let [min, mean, max] = [min, mean, self.max].map(format_time);
            put!(text, "; total min {min}, mean {mean}, max {max}");
        }
        text + "\n"
    }

    pub(super) fn exit(&self) -> Exit {
        match (self.failed, self.succeeded) {
            (0, 0) => Exit::Failed("no probe was sent".to_owned()),
            (0, _) => Exit::Healthy,
            _ => Exit::Unhealthy,
        }
    }
}
