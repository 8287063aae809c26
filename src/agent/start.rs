//! Starts the parts in order, runs the loop, stops the parts in order.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::collect::Collector;
use super::event_loop::{Event, EventLoop, Shared};
use super::history::Recorder;
use super::requests::{self, RequestQueue};
use super::silent::SilentPeers;
use super::survey::Survey;
use super::views::{self, AgentViews};
use crate::config::{Config, DEFAULT_PORT, DiscoveryConfig};
use crate::discovery::fixed::{FixedList, FixedSource};
use crate::discovery::kubernetes::{KubernetesSettings, KubernetesSource, LIST_DEADLINE};
use crate::discovery::{self, AddressRule, DiscoveryReason, EarlyRefresh, Own, PeerCache};
use crate::gate;
use crate::heartbeat::Heartbeat;
use crate::history::History;
use crate::logger::Losses;
use crate::metrics::AgentMetrics;
use crate::prober::{self, Experimenter, Prober};
use crate::random::Random;
use crate::route::Route;
use crate::schedule::Schedule;
use crate::server::{self, Renderer};
use crate::shutdown::StopToken;
use crate::state::{MeshState, Moment, StateSettings};
use crate::token::TokenKey;

/// Events that may queue for the loop. Workers and server threads block beyond it, which loses
/// nothing; the loop never waits for them.
const EVENTS: usize = 1024;
/// How long each thread may take to end after the drain. A probe or a list in flight may take longer,
/// and needs no orderly end.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1);
/// A lost SYN is retransmitted after 1 s; a shorter timeout makes it a failure.
const SHORT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Every loop has renewed its heartbeat by then, even on the slowest board.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A worker is stuck when a probe takes this much longer than its timeout.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The public port.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The private server.
    #[error("cannot start the private server: {0}")]
    Server(#[source] io::Error),
    /// A thread.
    #[error("cannot start the thread {0:?}: {1}")]
    Thread(&'static str, #[source] io::Error),
    /// A metric's name or label is invalid or occurs twice: a bug.
    #[error("cannot register the metrics: {0}")]
    Metrics(#[source] prometheus::Error),
}

/// Runs the agent until `stop`, and through its drain. Its metrics include the log lines that were `lost`.
///
/// # Errors
/// When a part cannot start.
pub fn run(config: &Config, stop: &StopToken, lost: Arc<Losses>) -> Result<(), AgentError> {
    if config.timeout < SHORT_TIMEOUT {
        log::warn!(
            "the timeout of {:?} is below {SHORT_TIMEOUT:?}: one lost SYN fails a probe",
            config.timeout
        );
    }
    let now = Instant::now();
    let (events, inbox) = sync_channel(EVENTS);
    let prober = Arc::new(new_prober(config, &events));
    let found = sender(&events);
    let experimenter = Experimenter::new(move |report| found(Event::Experimented(report)));
    let (queue, requests) = sync_channel(requests::CAPACITY);
    let wake = sender(&events);
    let retransmitted = Box::new(requests::retransmits(&queue));
    let queue = RequestQueue::new(queue, move || wake(Event::RequestsReceived), now);
    let key = TokenKey::random();
    let parts =
        Parts::start(config, stop, &events, (queue, retransmitted, key.clone()), lost, now)?;
    let waker = events.clone();
    // Does not block: a loop with a full channel is awake.
    stop.on_stop(move || drop(waker.try_send(Event::Stop)));

    let recorder = Recorder::new(config.state_dir.as_deref(), config.node.clone());
    let begin = Moment::now();

    let mut event_loop = EventLoop {
        state: MeshState::new(StateSettings {
            failure_threshold: config.failure_threshold,
            interval: config.interval,
            large_interval: config.large_interval,
            host_port: config.host_port,
            source: config.node.clone(),
            drain: config.drain,
            bounds: config.buckets.as_slice().into(),
            key,
        }),
        history: History::new(begin, recorder.read(begin)),
        schedule: Schedule::new(config.node.clone(), config.interval, Random::new()),
        prober: Arc::clone(&prober),
        experimenter,
        recorder: recorder.clone(),
        requests,
        refused: 0,
        early: parts.early.clone(),
        shared: Arc::clone(&parts.shared),
        heartbeat: parts.loop_heartbeat.clone(),
        workers_heartbeat: parts.workers_heartbeat.clone(),
        longest_probe: config.timeout + STUCK_AFTER,
        drain: config.drain,
        next_id: 0,
        large_in_flight: 0,
        no_route: false,
        next_tick: now,
        awake_by: now + START_TIMEOUT,
        next_expiry: None,
        stop: stop.clone(),
        draining: None,
    };
    log::info!(
        "wylis {} on node {:?}: probing every peer each {:?}, with a timeout of {:?}",
        env!("CARGO_PKG_VERSION"),
        config.node,
        config.interval,
        config.timeout
    );
    event_loop.run(&inbox);
    // Without a receiver, no sender blocks.
    drop((inbox, event_loop));
    parts.stop(&prober, &recorder);
    log::info!("stopped");
    Ok(())
}

/// The pool, without workers.
fn new_prober(config: &Config, events: &SyncSender<Event>) -> Prober {
    let report = sender(events);
    let settings = prober::Settings {
        node: config.node.clone(),
        instance: config.instance.clone(),
        interval: config.interval,
        timeout: config.timeout,
        listen_port: config.listen.map_or(DEFAULT_PORT, |address| address.port()),
    };
    Prober::new(settings, move |probed| report(Event::Probed(probed)))
}

/// The survey, which reaches the loop through events. A loop with a full channel is awake.
fn survey(config: &Config, events: &SyncSender<Event>, key: TokenKey) -> Survey {
    let own = (config.node.clone(), config.instance.clone());
    let (reader, waker) = (events.clone(), events.clone());
    let snapshot = Box::new(move || views::snapshot(&reader));
    let wake = Box::new(move || drop(waker.try_send(Event::SurveyChanged)));
    let listen = config.listen.map(|address| address.ip());
    Survey::new(own, key, (config.survey, listen), snapshot, wake)
}

/// The parts beside the loop.
struct Parts {
    early: EarlyRefresh,
    shared: Arc<Shared>,
    loop_heartbeat: Heartbeat,
    workers_heartbeat: Heartbeat,
    /// Stops the gate, which outlives the drain.
    gate_stop: StopToken,
    discovery: JoinHandle<()>,
    gate: JoinHandle<()>,
}

impl Parts {
    /// The public port opens before discovery starts: peers may probe the agent once it is listed.
    fn start(
        config: &Config,
        stop: &StopToken,
        events: &SyncSender<Event>,
        (requests, retransmitted, key): (RequestQueue, gate::Retransmitted, TokenKey),
        lost: Arc<Losses>,
        now: Instant,
    ) -> Result<Self, AgentError> {
        let listener = listen(config.listen)?;
        let reasons = DiscoveryReason::ALL.map(DiscoveryReason::as_str);
        let counters = Arc::new(gate::Counters::new(&Route::LABELS));
        let shared = Arc::new(Shared {
            metrics: AgentMetrics::new(&reasons).map_err(AgentError::Metrics)?,
            gate: Arc::clone(&counters),
            collector: Collector::new(config.node.clone()),
            renderer: Renderer::default(),
            survey: Arc::new(survey(config, events, key.clone())),
            listed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        });
        let heartbeats =
            ["agent", "workers", "discovery", "gate"].map(|name| Heartbeat::new(name, now));
        heartbeats.iter().for_each(|heartbeat| heartbeat.expect_by(now + START_TIMEOUT));
        let views = AgentViews {
            node: config.node.clone(),
            instance: config.instance.clone(),
            events: events.clone(),
            requests,
            key,
            shared: Arc::clone(&shared),
            lost,
            heartbeats: heartbeats.to_vec(),
            silent: SilentPeers::default(),
        };
        let [loop_heartbeat, workers_heartbeat, discovery_heartbeat, gate_heartbeat] = heartbeats;
        let backends = server::start(Arc::new(views)).map_err(AgentError::Server)?;
        let gate_stop = StopToken::new();
        let gate = gate::start(gate::Setup {
            listener,
            backends,
            limits: gate::Limits::of_this_process(),
            counters,
            heartbeat: gate_heartbeat,
            stop: gate_stop.clone(),
            retransmitted,
            fatal: Box::new(end),
        })
        .map_err(|error| AgentError::Thread("gate", error))?;
        let report = sender(events);
        let report = move |refresh| report(Event::Refreshed(refresh));
        let (discovery, early) =
            start_discovery(config, stop, discovery_heartbeat, Box::new(report))?;
        Ok(Self { early, shared, loop_heartbeat, workers_heartbeat, gate_stop, discovery, gate })
    }

    /// In the order of the data: workers, discovery, gate, the file.
    fn stop(self, prober: &Prober, recorder: &Recorder) {
        let deadline = Instant::now() + JOIN_TIMEOUT;
        let in_flight = prober.stop(deadline);
        if in_flight > 0 {
            log::debug!("probes still in flight: {in_flight}");
        }
        self.gate_stop.stop();
        for thread in [self.discovery, self.gate].into_iter().chain(recorder.writer()) {
            join_before(thread, Instant::now() + JOIN_TIMEOUT);
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
    let mut rule = AddressRule::Fixed;
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
            rule = AddressRule::pods(config.listen, (host, *port), config.peer_port)
                .with_host_port(config.host_port.unwrap_or(config.peer_port));
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
                rule: rule.clone(),
                deadline: LIST_DEADLINE,
            };
            (Box::new(KubernetesSource::new(settings)), format!("{namespace}/{label_selector}"))
        }
    };
    let cache = config.state_dir.as_ref().map(|dir| PeerCache::new(dir, own.clone(), &scope, rule));
    let settings = discovery::Settings { source, cache, interval: config.refresh_interval };
    discovery::start(settings, report, stop.clone(), heartbeat)
        .map_err(|error| AgentError::Thread("discovery", error))
}

/// Joins a thread that ends in time; another one ends with the process.
fn join_before(thread: JoinHandle<()>, deadline: Instant) {
    /// Short against the time that a thread takes to end.
    const POLL: Duration = Duration::from_millis(5);
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            log::debug!("thread {:?} is still busy", thread.thread().name().unwrap_or("unnamed"));
            return;
        }
        std::thread::sleep(POLL);
    }
    // The hook has logged a panic.
    let _ = thread.join();
}

/// Sends to the loop. Fails only once the loop has ended.
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
    let dual_stack = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
    let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
    match gate::listen(dual_stack) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(AgentError::Listen(dual_stack, error))
        }
        Err(error) => {
            log::info!("cannot listen on {dual_stack} ({error}): listening on {ipv4}");
            gate::listen(ipv4).map_err(|error| AgentError::Listen(ipv4, error))
        }
    }
}

/// Without a connection to the private server the agent cannot answer: the kubelet restarts it.
fn end(reason: &str) {
    log::error!("gate: {reason}; the process exits");
    log::logger().flush();
    std::process::exit(1);
}
