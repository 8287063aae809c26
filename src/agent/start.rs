//! Builds the parts in order, runs the loop, and takes the parts down in order.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::collect::Collector;
use super::event_loop::{Event, EventLoop, Shared};
use super::requests::{self, RequestQueue};
use super::views::AgentViews;
use crate::config::{Config, DEFAULT_PORT, DiscoveryConfig};
use crate::discovery::fixed::{FixedList, FixedSource};
use crate::discovery::kubernetes::{KubernetesSettings, KubernetesSource, LIST_DEADLINE};
use crate::discovery::{self, DiscoveryReason, EarlyRefresh, Own, PeerCache};
use crate::gate;
use crate::heartbeat::Heartbeat;
use crate::metrics::AgentMetrics;
use crate::prober::{self, Prober};
use crate::route::Route;
use crate::schedule::Schedule;
use crate::server;
use crate::shutdown::StopToken;
use crate::state::{MeshState, StateSettings};

/// Events that may wait for the loop. Workers and server threads block beyond it, which slows
/// them down and loses nothing; the loop itself never waits for them.
const EVENTS: usize = 1024;
/// How long threads are waited for after the drain; a probe or a list in flight may take longer,
/// and holds nothing that needs an orderly end.
const JOIN_WITHIN: Duration = Duration::from_secs(1);
/// One lost SYN is sent again after one second: a shorter timeout turns it into a failure.
const SHORT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Every loop has made its first promise by then, on the slowest board.
const START_WITHIN: Duration = Duration::from_secs(60);
/// A worker that is this much longer in a probe than its timeout is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Why the agent could not start or go on.
#[derive(Debug)]
pub enum AgentError {
    /// The public port cannot be had.
    Listen(SocketAddr, io::Error),
    /// The private server cannot be had.
    Server(io::Error),
    /// A thread cannot be had.
    Thread(&'static str, io::Error),
    /// The metrics contradict themselves: a mistake in the code.
    Metrics(prometheus::Error),
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Server(error) => write!(f, "cannot start the private server: {error}"),
            Self::Thread(name, error) => write!(f, "cannot start the thread {name:?}: {error}"),
            Self::Metrics(error) => write!(f, "cannot register the metrics: {error}"),
        }
    }
}

impl std::error::Error for AgentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen(_, error) | Self::Server(error) | Self::Thread(_, error) => Some(error),
            Self::Metrics(error) => Some(error),
        }
    }
}

/// Runs the agent until `stop`, and through its drain.
///
/// # Errors
/// When a part cannot start. Once all run, the agent lives until it is stopped.
pub fn run(config: &Config, stop: &StopToken) -> Result<(), AgentError> {
    if config.timeout < SHORT_TIMEOUT {
        log::warn!(
            "the timeout of {:?} is below {SHORT_TIMEOUT:?}: one lost SYN becomes a failure",
            config.timeout
        );
    }
    let now = Instant::now();
    let (events, inbox) = sync_channel(EVENTS);
    let report = sender(&events);
    let prober = Arc::new(Prober::new(
        prober::Settings {
            node: config.node.clone(),
            instance: config.instance.clone(),
            interval: config.interval,
            timeout: config.timeout,
            listen_port: config.listen.map_or(DEFAULT_PORT, |address| address.port()),
        },
        move |probed| report(Event::Probed(probed)),
    ));
    let (kept, requests) = sync_channel(requests::CAPACITY);
    let wake = sender(&events);
    let kept = RequestQueue::new(kept, move || wake(Event::Heard), now);
    let parts = Parts::start(config, stop, &events, kept, now)?;
    let waker = events.clone();
    // Never waits: a loop with a full channel is awake.
    stop.on_stop(move || drop(waker.try_send(Event::Stop)));

    let mut event_loop = EventLoop {
        state: MeshState::new(StateSettings {
            failure_threshold: config.failure_threshold,
            interval: config.interval,
            large_interval: config.large_interval,
            source: config.node.clone(),
            drain: config.drain,
            bounds: config.buckets.as_slice().into(),
        }),
        schedule: Schedule::new(config.node.clone(), config.interval, epoch(now, config.interval)),
        prober: Arc::clone(&prober),
        requests,
        gate: Arc::clone(&parts.counters),
        unheard: 0,
        early: parts.early.clone(),
        metrics: Arc::clone(&parts.metrics),
        collector: Arc::clone(&parts.collector),
        shared: Arc::clone(&parts.shared),
        heartbeat: parts.loop_pulse.clone(),
        workers_pulse: parts.workers_pulse.clone(),
        longest_probe: config.timeout + STUCK_AFTER,
        drain: config.drain,
        next_id: 0,
        large_in_flight: 0,
        next_tick: now,
        awake_by: now + START_WITHIN,
        next_expiry: None,
        stop: stop.clone(),
        leaving: None,
    };
    log::info!(
        "wylis {} on node {:?}: every peer is probed each {:?} within {:?}",
        env!("CARGO_PKG_VERSION"),
        config.node,
        config.interval,
        config.timeout
    );
    event_loop.run(&inbox);
    // From here on nobody listens: whoever still sends must not wait for it.
    drop((inbox, event_loop));
    parts.stop(&prober);
    log::info!("stopped");
    Ok(())
}

/// Everything that runs beside the loop.
struct Parts {
    counters: Arc<gate::Counters>,
    early: EarlyRefresh,
    metrics: Arc<AgentMetrics>,
    collector: Arc<Collector>,
    shared: Arc<Shared>,
    loop_pulse: Heartbeat,
    workers_pulse: Heartbeat,
    /// Stops the gate, which must outlive the drain.
    closing: StopToken,
    discovery: JoinHandle<()>,
    gate: JoinHandle<()>,
}

impl Parts {
    /// The public port opens before discovery begins: peers may probe us as soon as we are listed.
    fn start(
        config: &Config,
        stop: &StopToken,
        events: &SyncSender<Event>,
        requests: RequestQueue,
        now: Instant,
    ) -> Result<Self, AgentError> {
        let listener = listen(config.listen)?;
        let reasons = DiscoveryReason::ALL.map(DiscoveryReason::as_str);
        let metrics = Arc::new(AgentMetrics::new(&reasons).map_err(AgentError::Metrics)?);
        let shared = Arc::new(Shared::default());
        let [loop_pulse, workers_pulse, discovery_pulse, gate_pulse] =
            ["agent", "workers", "discovery", "gate"].map(|name| Heartbeat::new(name, now));
        for heartbeat in [&loop_pulse, &workers_pulse, &discovery_pulse, &gate_pulse] {
            heartbeat.expect_by(now + START_WITHIN);
        }
        let counters = Arc::new(gate::Counters::new(&Route::LABELS));
        let collector = Arc::new(Collector::new(config.node.clone()));
        let views = AgentViews {
            node: config.node.clone(),
            instance: config.instance.clone(),
            events: events.clone(),
            requests,
            shared: Arc::clone(&shared),
            metrics: Arc::clone(&metrics),
            gate: Arc::clone(&counters),
            collector: Arc::clone(&collector),
            heartbeats: vec![
                loop_pulse.clone(),
                workers_pulse.clone(),
                discovery_pulse.clone(),
                gate_pulse.clone(),
            ],
        };
        let backends = server::start(Arc::new(views)).map_err(AgentError::Server)?;
        let closing = StopToken::new();
        let gate = gate::start(gate::Setup {
            listener,
            backends,
            limits: gate::Limits::of_this_process(),
            counters: Arc::clone(&counters),
            heartbeat: gate_pulse,
            stop: closing.clone(),
            fatal: Box::new(end),
        })
        .map_err(|error| AgentError::Thread("gate", error))?;
        let report = sender(events);
        let report = move |refresh| report(Event::Refreshed(refresh));
        let (discovery, early) = start_discovery(config, stop, discovery_pulse, Box::new(report))?;
        Ok(Self {
            counters,
            early,
            metrics,
            collector,
            shared,
            loop_pulse,
            workers_pulse,
            closing,
            discovery,
            gate,
        })
    }

    /// In the order of the data: nobody probes any more, nobody lists, nobody answers.
    fn stop(self, prober: &Prober) {
        let deadline = Instant::now() + JOIN_WITHIN;
        let inside = prober.stop(deadline);
        if inside > 0 {
            log::debug!("probes still in flight: {inside}");
        }
        self.closing.stop();
        for thread in [self.discovery, self.gate] {
            join_before(thread, Instant::now() + JOIN_WITHIN);
        }
    }
}

fn start_discovery(
    config: &Config,
    stop: &StopToken,
    heartbeat: Heartbeat,
    report: Box<dyn Fn(discovery::Refresh) + Send>,
) -> Result<(JoinHandle<()>, EarlyRefresh), AgentError> {
    let own = config.node.clone();
    let fixed = |list| Box::new(FixedSource::new(list, own.clone()));
    let (source, scope): (Box<dyn discovery::PeerSource>, String) = match &config.discovery {
        DiscoveryConfig::Fixed(entries) => {
            (fixed(FixedList::Entries(entries.clone())), "WYLIS_PEERS".to_owned())
        }
        DiscoveryConfig::File(path) => {
            (fixed(FixedList::File(path.clone())), path.display().to_string())
        }
        DiscoveryConfig::Kubernetes {
            host,
            port,
            service_account_dir,
            namespace,
            label_selector,
        } => {
            let settings = KubernetesSettings {
                host: host.clone(),
                port: *port,
                service_account_dir: service_account_dir.clone(),
                namespace: namespace.clone(),
                label_selector: label_selector.clone(),
                own: Own {
                    node: own.clone(),
                    pod_name: config.pod_name.clone(),
                    pod_uid: config.instance_is_pod_uid.then(|| config.instance.clone()),
                },
                peer_port: config.peer_port,
                deadline: LIST_DEADLINE,
            };
            (Box::new(KubernetesSource::new(settings)), format!("{namespace}/{label_selector}"))
        }
    };
    let kept = config.state_dir.as_ref();
    let cache = kept.map(|dir| PeerCache::new(dir, own.clone(), &scope));
    let settings = discovery::Settings { source, cache, interval: config.refresh_interval };
    discovery::start(settings, report, stop.clone(), heartbeat)
        .map_err(|error| AgentError::Thread("discovery", error))
}

/// A thread that does not end in time ends with the process.
fn join_before(thread: JoinHandle<()>, deadline: Instant) {
    /// A fraction of what the joined thread takes to end.
    const LOOK: Duration = Duration::from_millis(5);
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            log::debug!("thread {:?} is still busy", thread.thread().name().unwrap_or("unnamed"));
            return;
        }
        std::thread::sleep(LOOK);
    }
    // A panic has been told by the hook.
    let _ = thread.join();
}

/// Sends to the loop; once that is gone, nothing is left to be told.
fn sender(events: &SyncSender<Event>) -> impl Fn(Event) + Send + Sync + 'static {
    let events = events.clone();
    move |event| {
        let _ = events.send(event);
    }
}

fn listen(address: Option<SocketAddr>) -> Result<TcpListener, AgentError> {
    if let Some(address) = address {
        return gate::listen(address).map_err(|error| AgentError::Listen(address, error));
    }
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
    let old = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
    match gate::listen(both) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(AgentError::Listen(both, error))
        }
        Err(error) => {
            log::info!("no IPv6 here ({error}): listening on {old}");
            gate::listen(old).map_err(|error| AgentError::Listen(old, error))
        }
    }
}

/// A lost connection to the private server cannot be had again: the kubelet starts us anew.
fn end(reason: &str) {
    log::error!("the public port cannot go on: {reason}");
    std::process::exit(1);
}

/// The last moment at which the wall clock was a multiple of the interval: phases survive a restart.
fn epoch(now: Instant, interval: Duration) -> Instant {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let into = wall.as_nanos() % interval.as_nanos().max(1);
    let into = Duration::from_nanos(u64::try_from(into).unwrap_or(0));
    now.checked_sub(into).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_zero_falls_on_multiples_of_the_interval_on_the_wall_clock() {
        // Both clocks are read one after the other: a busy machine may come between.
        const APART: Duration = Duration::from_secs(2);
        let interval = Duration::from_secs(3600);
        let now = Instant::now();
        let epoch = epoch(now, interval);
        assert!(now - epoch < interval);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let zero = (wall - (now - epoch)).as_nanos() % interval.as_nanos();
        let off = zero.min(interval.as_nanos() - zero);
        assert!(off < APART.as_nanos(), "{off} ns off");
    }
}
