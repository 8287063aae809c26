//! The fixture: an API server, a service account and a running discovery thread.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use wylis::discovery::kubernetes::{KubernetesSettings, KubernetesSource, LIST_DEADLINE};
use wylis::discovery::{
    AddressRule, EarlyRefresh, Origin, Own, PeerCache, PeerSource, Refresh, Settings, start,
};
use wylis::heartbeat::Heartbeat;
use wylis::name::{Instance, NodeName};
use wylis::peer::PeerSet;
use wylis::shutdown::StopToken;
use wylis_harness::api::{
    ApiServer, LABEL, NAMESPACE, PodTable, TestPod, uid_of, write_service_account,
};
use wylis_harness::pki::{Authority, Validity};
use wylis_harness::{TempDir, wait_until};

/// Longest wait: far above what any step takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Interval of regular refreshes: short, so that no test waits long for the next one.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
pub(crate) const PEER_PORT: u16 = 9050;
pub(crate) const OWN_NODE: &str = "node-me";
pub(crate) const OWN_POD: &str = "wylis-me";

/// The logged lines, by thread.
static LOGGED: Mutex<Option<HashMap<ThreadId, Vec<String>>>> = Mutex::new(None);

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {} {}", record.level(), record.target(), record.args());
        let mut logged = lock(&LOGGED);
        let lines = logged.get_or_insert_default().entry(std::thread::current().id());
        lines.or_default().push(line);
    }

    fn flush(&self) {}
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Captures all levels of all crates: the token must appear in none of them.
fn capture_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// `ok`, or the reason of the failure.
pub(crate) fn outcome(refresh: &Refresh) -> &'static str {
    match &refresh.result {
        Ok(_) => "ok",
        Err(error) => error.reason().as_str(),
    }
}

pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) ca: Authority,
    pub(crate) server: ApiServer,
    pub(crate) token: String,
    pub(crate) settings: KubernetesSettings,
    pub(crate) running: Option<Running>,
}

pub(crate) struct Running {
    pub(crate) refreshes: Arc<Mutex<Vec<Refresh>>>,
    pub(crate) stop: StopToken,
    pub(crate) handle: JoinHandle<()>,
    pub(crate) early: EarlyRefresh,
    pub(crate) thread: ThreadId,
}

impl Fixture {
    /// A server on that address that lists this agent and two peers.
    pub(crate) fn new(ip: &str) -> Self {
        Self::with_certificate(ip, &[ip], Validity::Now)
    }

    /// The same, with a certificate for these names.
    pub(crate) fn with_certificate(ip: &str, names: &[&str], validity: Validity) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        capture_logs();
        let address = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 0);
        let ca = Authority::new("kubernetes");
        let pods = PodTable::new();
        pods.put(TestPod::new(OWN_POD, OWN_NODE, "10.1.0.1"));
        pods.put(TestPod::new("wylis-a", "node-a", "10.1.0.2"));
        pods.put(TestPod::new("wylis-b", "node-b", "10.1.0.3"));
        let server = ApiServer::start(address, &ca.issue(names, validity), &pods);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let token = format!("secret-{}-{number}-t0k3n", std::process::id());
        server.set_tokens(&[&token]);
        let dir = TempDir::new("discovery");
        write_service_account(dir.path(), &token, &ca.pem(), NAMESPACE);
        let settings = KubernetesSettings {
            host: ip.to_owned(),
            port: server.address().port(),
            service_account_dir: dir.path().to_owned(),
            namespace: NAMESPACE.to_owned(),
            label_selector: format!("{}={}", LABEL.0, LABEL.1),
            own: Own {
                node: NodeName::new(OWN_NODE).unwrap(),
                pod_name: Some(OWN_POD.to_owned()),
                pod_uid: Some(Instance::new(&uid_of(OWN_POD)).unwrap()),
            },
            peer_port: PEER_PORT,
            rule: AddressRule::pods(None, (ip, server.address().port()), PEER_PORT),
            deadline: LIST_DEADLINE,
        };
        Self { dir, ca, server, token, settings, running: None }
    }

    pub(crate) fn source(&self) -> KubernetesSource {
        KubernetesSource::new(self.settings.clone())
    }

    /// Starts discovery like the agent.
    pub(crate) fn run(&mut self) {
        self.run_with(INTERVAL, None);
    }

    pub(crate) fn run_with(&mut self, interval: Duration, cache: Option<PeerCache>) {
        let source = Box::new(self.source());
        self.running = Some(run(Settings { source, cache, interval }));
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Starts discovery and waits for the first list.
    pub(crate) fn run_to_first_list(&mut self) {
        self.run();
        self.running().await_outcome(0, "ok");
        assert_eq!(self.running().nodes(), ["node-a", "node-b"]);
    }

    /// Asserts that the next refreshes fail for that reason and keep the set, and that discovery recovers
    /// after `repair`.
    pub(crate) fn fails_and_recovers(&mut self, reason: &str, repair: impl FnOnce(&mut Self)) {
        // From the first refresh on, because the failure may have happened already.
        self.running().await_outcome(0, reason);
        assert_eq!(
            self.running().nodes(),
            ["node-a", "node-b"],
            "the last good set stays in force"
        );
        let seen = self.running().count();
        repair(self);
        self.running().await_outcome(seen, "ok");
        assert_eq!(self.running().nodes(), ["node-a", "node-b"]);
    }

    /// Asserts that the first refreshes fail for that reason and report no set.
    pub(crate) fn fails_from_the_start(&mut self, reason: &str) {
        self.run();
        self.running().await_outcome(0, reason);
        assert!(lock(&self.running().refreshes).iter().all(|refresh| refresh.result.is_err()));
    }
}

impl Drop for Fixture {
    /// Asserts that no logged line of the process contains the token.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A failed test may hang; it ends with the process.
            return;
        }
        if let Some(running) = self.running.take() {
            running.end();
        }
        let logged = lock(&LOGGED);
        let lines = logged.iter().flat_map(HashMap::values).flatten();
        let leaked: Vec<_> = lines.filter(|line| line.contains("t0k3n")).collect();
        assert!(leaked.is_empty(), "the token is in the log: {leaked:?}");
    }
}

/// Starts discovery with any source.
pub(crate) fn run(settings: Settings) -> Running {
    capture_logs();
    let refreshes = Arc::new(Mutex::new(Vec::new()));
    let reported = Arc::clone(&refreshes);
    let report = Box::new(move |refresh| lock(&reported).push(refresh));
    let (stop, heartbeat) = (StopToken::new(), Heartbeat::new("discovery", Instant::now()));
    let (handle, early) = start(settings, report, stop.clone(), heartbeat).unwrap();
    let thread = handle.thread().id();
    Running { refreshes, stop, handle, early, thread }
}

impl Running {
    pub(crate) fn count(&self) -> usize {
        lock(&self.refreshes).len()
    }

    /// Waits for a fresh refresh with that outcome, from number `from` on.
    pub(crate) fn await_outcome(&self, from: usize, expected: &str) {
        let what = format!("a refresh that ends as {expected}");
        wait_until(PATIENCE, &what, || {
            let refreshes = lock(&self.refreshes);
            let mut fresh = refreshes.iter().skip(from).filter(|r| r.origin == Origin::Fresh);
            fresh.any(|refresh| outcome(refresh) == expected)
        });
    }

    /// The set in force: the last one reported.
    pub(crate) fn set(&self) -> Option<PeerSet> {
        let refreshes = lock(&self.refreshes);
        refreshes.iter().rev().find_map(|refresh| refresh.result.as_ref().ok().cloned())
    }

    pub(crate) fn nodes(&self) -> Vec<String> {
        let set = self.set().unwrap_or_default();
        set.iter().map(|peer| peer.node.to_string()).collect()
    }

    /// The lines of the thread from this crate.
    pub(crate) fn log(&self) -> Vec<String> {
        let logged = lock(&LOGGED);
        let lines = logged.as_ref().and_then(|logged| logged.get(&self.thread));
        let own = |line: &&String| line.contains(" wylis::");
        lines.map_or(Vec::new(), |lines| lines.iter().filter(own).cloned().collect())
    }

    /// Stops and joins; returns how long that took.
    pub(crate) fn end(self) -> Duration {
        let start = Instant::now();
        self.stop.stop();
        self.handle.join().unwrap();
        start.elapsed()
    }
}

/// The peers that a source lists; they must differ from the last ones.
pub(crate) fn listed(source: &mut dyn PeerSource) -> PeerSet {
    source.list(std::time::SystemTime::now()).unwrap().expect("a changed list")
}
