//! A stand-in for the Kubernetes API server: real TLS, bearer tokens, the pod list in its real
//! shape, and every misbehaviour that discovery must bear.
//!
//! One thread accepts, one thread serves each connection; `stop` ends them all and frees the
//! address, `start` takes it again.

mod behaviour;
mod connection;
mod pod;
mod table;

use std::collections::{BTreeSet, HashMap};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use behaviour::Behaviour;
pub use pod::{CREATED, DAEMON_SET_UID, LABEL, NAMESPACE, TestPod, uid_of};
pub use table::{Listing, PodTable};

use crate::netns::Entrance;
use crate::pki::Identity;

/// One request as received.
#[derive(Debug, Clone)]
pub struct Request {
    /// When its head was read.
    pub at: Instant,
    /// `GET` and the like.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// All headers.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// A query parameter, percent-decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        connection::query(&self.target, name)
    }

    /// A header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it would rather have the rows that kubectl prints than objects.
    #[must_use]
    pub fn wants_table(&self) -> bool {
        self.header("accept").is_some_and(|accept| accept.contains("as=Table"))
    }
}

/// The server. Dropping it stops it.
pub struct ApiServer {
    address: SocketAddr,
    /// The namespace that it listens in, when not ours.
    inside: Option<Entrance>,
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What the threads share with the test.
struct Shared {
    pods: PodTable,
    identity: Mutex<Identity>,
    tokens: Mutex<BTreeSet<String>>,
    plan: Mutex<behaviour::Plan>,
    log: Mutex<Vec<Request>>,
    connections: AtomicU64,
    bytes: AtomicU64,
    /// Seconds that its clock is ahead of ours.
    ahead: AtomicU64,
    /// Whether it knows the table form.
    tables: AtomicBool,
    /// Open connections, so that a stop can break them off.
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl Shared {
    fn ahead(&self) -> Duration {
        Duration::from_secs(self.ahead.load(Ordering::Relaxed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ApiServer {
    /// Starts on an address (port 0 for any) with a certificate and a table of pods. No token is
    /// valid yet; see [`ApiServer::set_tokens`].
    ///
    /// # Panics
    /// When the address cannot be bound.
    #[must_use]
    pub fn start(address: SocketAddr, identity: &Identity, pods: &PodTable) -> Self {
        Self::start_in(None, address, identity, pods)
    }

    /// As [`ApiServer::start`], listening in another network namespace.
    ///
    /// # Panics
    /// As [`ApiServer::start`].
    #[must_use]
    pub fn start_in(
        inside: Option<Entrance>,
        address: SocketAddr,
        identity: &Identity,
        pods: &PodTable,
    ) -> Self {
        let mut server = Self {
            address,
            inside,
            shared: Arc::new(Shared {
                pods: pods.clone(),
                identity: Mutex::new(identity.clone()),
                tokens: Mutex::default(),
                plan: Mutex::default(),
                log: Mutex::default(),
                connections: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                ahead: AtomicU64::new(0),
                tables: AtomicBool::new(true),
                open: Mutex::default(),
            }),
            running: None,
        };
        server.restart();
        server
    }

    /// Where it listens; stays the same over [`ApiServer::stop`] and [`ApiServer::restart`].
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The variables by which a pod finds the API server.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("KUBERNETES_SERVICE_HOST", self.address.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT", self.address.port().to_string()),
        ]
    }

    /// The table of pods.
    #[must_use]
    pub fn pods(&self) -> &PodTable {
        &self.shared.pods
    }

    /// Listens again on the same address; nothing when it runs.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub fn restart(&mut self) {
        if self.running.is_some() {
            return;
        }
        let listener = self
            .within(|| TcpListener::bind(self.address))
            .unwrap_or_else(|error| panic!("bind {}: {error}", self.address));
        self.address = listener.local_addr().expect("a bound socket has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, seen) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let accept = move || accept(&listener, &shared, &seen);
        let thread = std::thread::Builder::new().name("api".to_owned()).spawn(accept);
        self.running = Some(Running { stop, thread: thread.expect("spawn the API server") });
    }

    fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        match &self.inside {
            Some(namespace) => namespace.within(action),
            None => action(),
        }
    }

    /// Closes the port and breaks off all connections.
    pub fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.stop.store(true, Ordering::SeqCst);
        // Wakes the accept; a refusal means that it is awake already.
        drop(self.within(|| TcpStream::connect(self.address)));
        // A thread that panicked has told so.
        let _ = running.thread.join();
        for (_, stream) in lock(&self.shared.open).drain() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The certificate from the next connection on.
    pub fn set_identity(&self, identity: &Identity) {
        *lock(&self.shared.identity) = identity.clone();
    }

    /// The tokens that are valid from now on.
    pub fn set_tokens(&self, tokens: &[&str]) {
        *lock(&self.shared.tokens) = tokens.iter().map(ToString::to_string).collect();
    }

    /// Sets its clock ahead of ours.
    pub fn set_clock_ahead(&self, by: Duration) {
        self.shared.ahead.store(by.as_secs(), Ordering::Relaxed);
    }

    /// Answers with whole objects whatever the client would rather have.
    pub fn know_no_tables(&self) {
        self.shared.tables.store(false, Ordering::Relaxed);
    }

    /// The next `times` answers go this way.
    pub fn next(&self, times: usize, behaviour: &Behaviour) {
        lock(&self.shared.plan).push(times, behaviour);
    }

    /// All further answers go this way; what [`ApiServer::next`] had left is forgotten.
    pub fn always(&self, behaviour: Behaviour) {
        lock(&self.shared.plan).set_always(behaviour);
    }

    /// All requests so far.
    #[must_use]
    pub fn log(&self) -> Vec<Request> {
        lock(&self.shared.log).clone()
    }

    /// How many requests so far that wanted objects, and not rows.
    #[must_use]
    pub fn whole_lists(&self) -> usize {
        lock(&self.shared.log).iter().filter(|request| !request.wants_table()).count()
    }

    /// How many requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        lock(&self.shared.log).len()
    }

    /// How many connections were accepted, also those whose handshake failed.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        lock(&self.shared.open).len()
    }

    /// How many bytes of answers were written, before TLS.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        if let Ok(clone) = stream.try_clone() {
            lock(&shared.open).insert(number, clone);
        }
        let worker = Arc::clone(shared);
        let serve = move || {
            // Any end of a connection is the client's business; tests look at the client.
            let _ = connection::serve(stream, &worker);
            lock(&worker.open).remove(&number);
        };
        let thread = std::thread::Builder::new().name("api-conn".to_owned()).spawn(serve);
        drop(thread.expect("spawn a connection of the API server"));
    }
}

/// Writes a service account as the kubelet mounts it: `token`, `ca.crt`, `namespace`, each
/// replaced at once, so that a reader never sees half a file.
///
/// # Panics
/// When the folder cannot be written.
pub fn write_service_account(dir: &Path, token: &str, ca: &str, namespace: &str) {
    std::fs::create_dir_all(dir)
        .unwrap_or_else(|error| panic!("create {}: {error}", dir.display()));
    for (name, text) in [("token", token), ("ca.crt", ca), ("namespace", namespace)] {
        write_file(dir, name, text);
    }
}

/// Replaces one file of a folder at once.
///
/// # Panics
/// When the folder cannot be written.
pub fn write_file(dir: &Path, name: &str, text: &str) {
    let (new, path) = (dir.join(format!(".{name}.new")), dir.join(name));
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, &path))
        .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}
