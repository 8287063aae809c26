//! Finds the peers, again and again, and keeps the last good set.
//!
//! One thread, `discovery`, owns a [`PeerSource`] and reports each refresh. It holds no lock while it
//! talks to anybody, decides nothing about peers' health, and ends at the stop token: at once from
//! a wait, within the source's deadline from a request.

mod cache;
mod cadence;
mod error;
pub mod fixed;
pub mod kubernetes;
mod log_on_change;
mod random;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use log::{debug, info, warn};

pub use cache::PeerCache;
pub use cadence::EarlyCause;
pub use error::{DiscoveryError, DiscoveryReason};
pub use kubernetes::Own;

use crate::heartbeat::Heartbeat;
use crate::peer::PeerSet;
use crate::shutdown::StopToken;
use cadence::{Cadence, Finish};
use log_on_change::LogOnChange;
use random::Random;

/// Room for a TLS handshake and the decoder's frames. A release build uses about 40 KiB, a debug
/// build ten times that; the rest is only virtual.
const STACK: usize = 1 << 20;
/// Causes that wait while a request is under way. What does not fit is no loss: the refresh that
/// the others bring shows the same list.
const QUEUE: usize = 64;
/// How late the loop may be before it counts as stuck. A list has its own deadline; a look-up of
/// host names can block for half a minute beyond it, a write to a tired disk likewise.
const HEARTBEAT_SLACK: Duration = Duration::from_secs(60);

/// Where peers come from.
pub trait PeerSource: Send {
    /// The peers of this moment, or `None` when they are those that this source gave last; blocks
    /// within a deadline of its own. `wall` is the clock on the wall, to compare with the dates of
    /// others.
    ///
    /// # Errors
    /// When there is no list to be had, or none that can be ours. The last one stays in force.
    fn list(&mut self, wall: SystemTime) -> Result<Option<PeerSet>, DiscoveryError>;

    /// Whether all agents ask the same server, so that a large mesh must ask more seldom.
    fn is_shared(&self) -> bool {
        true
    }
}

/// Whence a set of peers comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The file of the last run.
    Cache,
    /// The source, just now.
    Fresh,
}

/// What one refresh brought.
#[derive(Debug)]
pub struct Refresh {
    /// How long it took.
    pub took: Duration,
    /// Where it comes from.
    pub origin: Origin,
    /// The next regular refresh starts within this time, if this one went well.
    pub next_within: Duration,
    /// The new set, or why there is none; then the last one stays in force.
    pub result: Result<PeerSet, DiscoveryError>,
}

enum Event {
    Early(EarlyCause),
    Wake,
}

/// Asks for an early refresh. Clones ask the same thread.
#[derive(Clone)]
pub struct EarlyRefresh(SyncSender<Event>);

impl EarlyRefresh {
    /// Asks for a refresh because of this; never blocks, and brings no more refreshes than the
    /// cadence allows.
    pub fn request(&self, cause: EarlyCause) {
        // A full queue holds causes that bring the same list; a closed one means the end.
        let _ = self.0.try_send(Event::Early(cause));
    }
}

/// What the thread works with.
pub struct Plan {
    /// Where peers come from.
    pub source: Box<dyn PeerSource>,
    /// Where the last good list is kept.
    pub cache: Option<PeerCache>,
    /// The least spacing of regular refreshes; it grows with the number of peers.
    pub interval: Duration,
}

/// Starts the thread `discovery`. It reports the kept list first, where there is one, then the
/// outcome of every refresh, the first of which starts at once.
///
/// # Errors
/// When the kernel refuses a thread.
pub fn start(
    plan: Plan,
    report: Box<dyn Fn(Refresh) + Send>,
    stop: StopToken,
    heartbeat: Heartbeat,
) -> io::Result<(JoinHandle<()>, EarlyRefresh)> {
    let (sender, events) = sync_channel(QUEUE);
    let waker = sender.clone();
    stop.on_stop(move || {
        // A full queue wakes as well.
        let _ = waker.try_send(Event::Wake);
    });
    let discovery = Discovery {
        cadence: Cadence::new(plan.interval, Random::new(), Instant::now()),
        plan,
        report,
        stop,
        heartbeat,
        last: None,
        failing: None,
    };
    let builder = std::thread::Builder::new().name("discovery".to_owned()).stack_size(STACK);
    let handle = builder.spawn(move || discovery.run(&events))?;
    Ok((handle, EarlyRefresh(sender)))
}

struct Discovery {
    plan: Plan,
    cadence: Cadence,
    report: Box<dyn Fn(Refresh) + Send>,
    stop: StopToken,
    heartbeat: Heartbeat,
    /// The last good set.
    last: Option<PeerSet>,
    /// The reason of the failures at present.
    failing: Option<DiscoveryReason>,
}

impl Discovery {
    fn run(mut self, events: &Receiver<Event>) {
        self.heartbeat.expect_by(Instant::now() + HEARTBEAT_SLACK);
        self.recall();
        while self.wait(events) {
            self.heartbeat.expect_by(Instant::now() + HEARTBEAT_SLACK);
            self.refresh();
        }
    }

    /// Reports the list of the last run.
    fn recall(&mut self) {
        let Some(cache) = &mut self.plan.cache else { return };
        let start = Instant::now();
        let Some(set) = cache.read(SystemTime::now()) else { return };
        self.cadence.know(set.len(), Instant::now());
        self.last = Some(set.clone());
        let next_within = self.cadence.regular_within();
        let took = start.elapsed();
        (self.report)(Refresh { took, origin: Origin::Cache, next_within, result: Ok(set) });
    }

    /// Waits until the next refresh is due; `false` at the stop.
    fn wait(&mut self, events: &Receiver<Event>) -> bool {
        loop {
            if self.stop.is_stopped() {
                return false;
            }
            let due = self.cadence.due();
            self.heartbeat.expect_by(due + HEARTBEAT_SLACK);
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Not until the queue is empty: a flood of causes must not hold up the list.
                let waiting = events.try_iter().take(QUEUE);
                waiting.for_each(|event| self.take(event));
                return true;
            }
            match events.recv_timeout(left) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                // The stop token's waker holds a sender until the stop.
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, event: Event) {
        let Event::Early(cause) = event else { return };
        // It may have waited while a list was under way that answers it.
        let answered = self.last.as_ref().is_some_and(|set| knows(set, &cause));
        if !answered {
            self.cadence.note(cause, Instant::now());
        }
    }

    fn refresh(&mut self) {
        let start = Instant::now();
        self.cadence.started(start);
        let result = self.plan.source.list(SystemTime::now());
        let result = result.map(|set| set.or_else(|| self.last.clone()).unwrap_or_default());
        let took = start.elapsed();
        let now = Instant::now();
        match &result {
            Ok(set) => {
                self.tell_recovery();
                self.tell_changes(set);
                let last = self.last.take();
                let finish = Finish::Listed {
                    peers: if self.plan.source.is_shared() { set.len() } else { 0 },
                    starting: set.pods.pending + set.pods.no_ip > 0,
                };
                self.cadence.finished(now, finish, |cause| helped(cause, last.as_ref(), set));
                self.last = Some(set.clone());
            }
            Err(error) => {
                self.cadence.finished(now, Finish::Failed(error.retry_after()), |_| false);
                self.tell_failure(error);
            }
        }
        let good = result.is_ok();
        let next_within = self.cadence.regular_within();
        (self.report)(Refresh { took, origin: Origin::Fresh, next_within, result });
        // After the report: a tired disk takes its time.
        if let (true, Some(cache), Some(set)) = (good, &mut self.plan.cache, &self.last) {
            cache.write(set, SystemTime::now());
        }
    }

    fn tell_failure(&mut self, error: &DiscoveryError) {
        let reason = error.reason();
        if self.failing.replace(reason) == Some(reason) {
            debug!("discovery still fails: {error}");
            return;
        }
        match &self.last {
            Some(set) => warn!("discovery fails, {} known peers are kept: {error}", set.len()),
            None => warn!("discovery fails, no peers are known: {error}"),
        }
    }

    fn tell_recovery(&mut self) {
        if self.failing.take().is_some() {
            info!("discovery works again; failures in a row: {}", self.cadence.failures());
        }
    }

    fn tell_changes(&self, set: &PeerSet) {
        let empty = PeerSet::default();
        let diff = self.last.as_ref().unwrap_or(&empty).diff(set);
        let (joined, left) = (diff.joined.len(), diff.left.len());
        if self.last.is_none() || joined + left > 0 {
            info!("peers: {}, {joined} joined, {left} left", set.len());
        }
        for peer in &diff.joined {
            debug!("peer {} joined at {}", peer.node, peer.address);
        }
        for peer in &diff.changed {
            debug!("peer {} changed, now at {}", peer.node, peer.address);
        }
        for node in &diff.left {
            debug!("peer {node} left");
        }
    }
}

/// Whether a new set answers a cause, so that the same cause may come again at once.
fn helped(cause: &EarlyCause, last: Option<&PeerSet>, set: &PeerSet) -> bool {
    match cause {
        // The peer is gone, or was replaced; an unchanged one has its trouble elsewhere.
        EarlyCause::Failing(node) => {
            let place =
                |set: &PeerSet| set.get(node).map(|peer| (peer.address, peer.instance.clone()));
            last.and_then(place) != place(set)
        }
        EarlyCause::Unknown(..) | EarlyCause::NewInstance(..) => knows(set, cause),
    }
}

/// Whether a set has the node or the instance that a request named.
fn knows(set: &PeerSet, cause: &EarlyCause) -> bool {
    match cause {
        EarlyCause::Failing(_) => false,
        EarlyCause::Unknown(node, _) => set.get(node).is_some(),
        EarlyCause::NewInstance(node, instance) => {
            set.get(node).is_some_and(|peer| peer.instance.as_ref() == Some(instance))
        }
    }
}

/// Seconds since 1970; 0 for a clock before that.
fn unix_seconds(wall: SystemTime) -> i64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
