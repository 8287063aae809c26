//! Finds the peers periodically and keeps the last good set.
//!
//! The thread `discovery` owns a [`PeerSource`] and reports each refresh. It holds no lock during I/O
//! and decides nothing about the health of peers. The stop token ends a wait at once, and a request
//! within the deadline of the source.

mod address;
mod cache;
mod cadence;
mod error;
pub mod fixed;
pub mod kubernetes;
mod log_on_change;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use log::{debug, info, warn};

pub use address::{AddressClass, AddressRule};
pub use cache::PeerCache;
pub use cadence::EarlyCause;
pub use error::{DiscoveryError, DiscoveryReason};
pub use kubernetes::Own;

use crate::heartbeat::Heartbeat;
use crate::peer::PeerSet;
use crate::random::Random;
use crate::shutdown::StopToken;
use cadence::Cadence;
use log_on_change::LogOnChange;

/// Stack for a TLS handshake and the frames of the decoder. A release build uses about 40 KiB, a
/// debug build ten times that; the rest is only virtual.
const STACK: usize = 1 << 20;
/// Causes that wait while a list is under way. Overflow loses nothing, since the refresh for the
/// others brings the same list.
const QUEUE: usize = 64;
/// How late the loop may be before it counts as stuck. A list has a deadline, but a look-up of host
/// names can block for half a minute beyond it, as can a write to a slow disk.
const HEARTBEAT_SLACK: Duration = Duration::from_secs(60);

/// Where peers come from.
pub trait PeerSource: Send {
    /// The current peers, or `None` when they are the same as those of the last call. Blocks within a
    /// deadline of the source. `wall` is the wall clock, for comparison with dates from elsewhere.
    ///
    /// # Errors
    /// When the list cannot be read, or cannot be this agent's. The last one stays in force.
    fn list(&mut self, wall: SystemTime) -> Result<Option<PeerSet>, DiscoveryError>;

    /// How many of the peers read from the same server: the interval grows with their number.
    fn readers(&self, peers: usize) -> usize {
        peers
    }
}

/// Where a set of peers comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The file of the last run.
    Cache,
    /// The source.
    Fresh,
}

/// The outcome of one refresh.
#[derive(Debug)]
pub struct Refresh {
    /// How long it took.
    pub took: Duration,
    /// Where the set comes from.
    pub origin: Origin,
    /// Longest time to the next regular refresh, unless this one failed.
    pub next_within: Duration,
    /// The new set, or why the last one stays in force.
    pub result: Result<PeerSet, DiscoveryError>,
}

/// What ends a wait.
enum Wake {
    Early(EarlyCause),
    Stop,
}

/// Requests early refreshes. Clones reach the same thread.
#[derive(Clone)]
pub struct EarlyRefresh(SyncSender<Wake>);

impl EarlyRefresh {
    /// Requests a refresh for this cause, within the limits of the cadence. Never blocks.
    pub fn request(&self, cause: EarlyCause) {
        // A full queue holds causes that bring the same list; a closed one means that the agent stops.
        let _ = self.0.try_send(Wake::Early(cause));
    }
}

/// Settings of the thread.
pub struct Settings {
    /// Where peers come from.
    pub source: Box<dyn PeerSource>,
    /// The file with the last good set.
    pub cache: Option<PeerCache>,
    /// Shortest interval of regular refreshes; it grows with the number of peers.
    pub interval: Duration,
}

/// Starts the thread `discovery`. It reports the cached set first, if there is one, then the outcome
/// of every refresh, the first of which starts at once.
///
/// # Errors
/// When the kernel refuses a thread.
pub fn start(
    settings: Settings,
    report: Box<dyn Fn(Refresh) + Send>,
    stop: StopToken,
    heartbeat: Heartbeat,
) -> io::Result<(JoinHandle<()>, EarlyRefresh)> {
    let (sender, wakes) = sync_channel(QUEUE);
    let waker = sender.clone();
    stop.on_stop(move || {
        // A full queue wakes as well.
        let _ = waker.try_send(Wake::Stop);
    });
    let discovery = Discovery {
        cadence: Cadence::new(settings.interval, Random::new(), Instant::now()),
        source: settings.source,
        cache: settings.cache,
        report,
        stop,
        heartbeat,
        last: None,
        failing: None,
    };
    let builder = std::thread::Builder::new().name("discovery".to_owned()).stack_size(STACK);
    let handle = builder.spawn(move || discovery.run(&wakes))?;
    Ok((handle, EarlyRefresh(sender)))
}

struct Discovery {
    source: Box<dyn PeerSource>,
    cache: Option<PeerCache>,
    cadence: Cadence,
    report: Box<dyn Fn(Refresh) + Send>,
    stop: StopToken,
    heartbeat: Heartbeat,
    /// The last good set.
    last: Option<PeerSet>,
    /// The reason of the last refresh, if it failed.
    failing: Option<DiscoveryReason>,
}

impl Discovery {
    fn run(mut self, wakes: &Receiver<Wake>) {
        self.heartbeat.expect_by(Instant::now() + HEARTBEAT_SLACK);
        self.report_cached();
        while self.wait(wakes) {
            self.heartbeat.expect_by(Instant::now() + HEARTBEAT_SLACK);
            self.refresh();
        }
    }

    fn report_cached(&mut self) {
        let start = Instant::now();
        let cached = self.cache.as_mut().and_then(|cache| cache.read(SystemTime::now()));
        let Some(set) = cached else { return };
        self.cadence.spread_first(self.source.readers(set.len()), Instant::now());
        self.last = Some(set.clone());
        let next_within = self.cadence.regular_within();
        let took = start.elapsed();
        (self.report)(Refresh { took, origin: Origin::Cache, next_within, result: Ok(set) });
    }

    /// Waits until the next refresh is due; `false` at the stop.
    fn wait(&mut self, wakes: &Receiver<Wake>) -> bool {
        loop {
            if self.stop.is_stopped() {
                return false;
            }
            let due = self.cadence.due();
            self.heartbeat.expect_by(due + HEARTBEAT_SLACK);
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Not until the queue is empty: a flood of causes must not delay the list.
                wakes.try_iter().take(QUEUE).for_each(|wake| self.note(wake));
                return true;
            }
            match wakes.recv_timeout(left) {
                Ok(wake) => self.note(wake),
                Err(RecvTimeoutError::Timeout) => {}
                // The stop token's waker holds a sender until the stop.
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn note(&mut self, wake: Wake) {
        let Wake::Early(cause) = wake else { return };
        // The list that was under way while the cause waited may answer it.
        let answered = self.last.as_ref().is_some_and(|set| answers(&cause, set, set));
        if !answered {
            self.cadence.note(cause, Instant::now());
        }
    }

    fn refresh(&mut self) {
        let start = Instant::now();
        let result = self.source.list(SystemTime::now());
        let result = result.map(|set| set.or_else(|| self.last.clone()).unwrap_or_default());
        let now = Instant::now();
        match &result {
            Ok(set) => {
                self.log_recovery();
                self.log_changes(set);
                let last = self.last.replace(set.clone()).unwrap_or_default();
                let starting = set.pods.pending + set.pods.no_ip > 0;
                let readers = self.source.readers(set.len());
                let answers = |cause: &EarlyCause| answers(cause, &last, set);
                self.cadence.listed(start, now, readers, starting, answers);
            }
            Err(error) => {
                self.cadence.failed(start, now, error.retry_after());
                self.log_failure(error);
            }
        }
        let is_good = result.is_ok();
        let next_within = self.cadence.regular_within();
        let took = now - start;
        (self.report)(Refresh { took, origin: Origin::Fresh, next_within, result });
        // After the report, since a slow disk takes its time.
        if let (true, Some(cache), Some(set)) = (is_good, &mut self.cache, &self.last) {
            cache.write(set, SystemTime::now());
        }
    }

    fn log_failure(&mut self, error: &DiscoveryError) {
        let reason = error.reason();
        if self.failing.replace(reason) == Some(reason) {
            debug!("discovery still fails: {error}");
            return;
        }
        match &self.last {
            Some(set) => {
                warn!("discovery fails, the last {} peers stay in use: {error}", set.len())
            }
            None => warn!("discovery fails, no peers are known: {error}"),
        }
    }

    fn log_recovery(&mut self) {
        if self.failing.take().is_some() {
            info!("discovery works again after {} failures in a row", self.cadence.failures());
        }
    }

    fn log_changes(&self, set: &PeerSet) {
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
fn answers(cause: &EarlyCause, last: &PeerSet, set: &PeerSet) -> bool {
    match cause {
        // The peer left or was replaced. One that stays the same fails for another reason.
        EarlyCause::Failing(node) => match (last.get(node), set.get(node)) {
            (Some(last), Some(peer)) => {
                (last.address, &last.instance) != (peer.address, &peer.instance)
            }
            _ => true,
        },
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
