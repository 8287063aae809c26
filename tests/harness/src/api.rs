//! A fake Kubernetes API server: real TLS, bearer tokens, pod lists of the real form, and every misbehaviour
//! that discovery must tolerate.
//!
//! One thread accepts, one thread serves each connection. `stop` ends them and closes the port, `restart`
//! opens it again.

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

/// A received request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The time its head was read.
    pub at: Instant,
    /// The method.
    pub method: String,
    /// Path and query.
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

    /// A header, with its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it accepts a table instead of objects.
    #[must_use]
    pub fn wants_table(&self) -> bool {
        self.header("accept").is_some_and(|accept| accept.contains("as=Table"))
    }
}

/// The server; stopped when dropped.
pub struct ApiServer {
    address: SocketAddr,
    /// The namespace that it listens in, if not our own.
    inside: Option<Entrance>,
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Shared by the threads and the test.
struct Shared {
    pods: PodTable,
    identity: Mutex<Identity>,
    tokens: Mutex<BTreeSet<String>>,
    script: Mutex<behaviour::Script>,
    log: Mutex<Vec<Request>>,
    connections: AtomicU64,
    bytes: AtomicU64,
    /// Seconds that its clock is ahead.
    ahead: AtomicU64,
    /// Whether it supports tables.
    tables: AtomicBool,
    /// Open connections, for `stop` to close.
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
                script: Mutex::default(),
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

    /// Its address, which [`ApiServer::stop`] and [`ApiServer::restart`] do not change.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The variables that give a pod the API server's address.
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

    /// Listens again on the same address, unless it runs.
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

    /// Closes the port and all connections.
    pub fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.stop.store(true, Ordering::SeqCst);
        // Wakes the accept; a refusal means that it has ended.
        drop(self.within(|| TcpStream::connect(self.address)));
        // A panic was already printed.
        let _ = running.thread.join();
        for (_, stream) in lock(&self.shared.open).drain() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Sets the certificate of later connections.
    pub fn set_identity(&self, identity: &Identity) {
        *lock(&self.shared.identity) = identity.clone();
    }

    /// Sets the valid tokens.
    pub fn set_tokens(&self, tokens: &[&str]) {
        *lock(&self.shared.tokens) = tokens.iter().map(ToString::to_string).collect();
    }

    /// Sets its clock ahead.
    pub fn set_clock_ahead(&self, by: Duration) {
        self.shared.ahead.store(by.as_secs(), Ordering::Relaxed);
    }

    /// Disables tables: every list has whole objects.
    pub fn know_no_tables(&self) {
        self.shared.tables.store(false, Ordering::Relaxed);
    }

    /// Sets the behaviour of the next `times` answers.
    pub fn next(&self, times: usize, behaviour: &Behaviour) {
        lock(&self.shared.script).push(times, behaviour);
    }

    /// Sets the behaviour of all later answers, in place of those of [`ApiServer::next`].
    pub fn always(&self, behaviour: Behaviour) {
        lock(&self.shared.script).set_always(behaviour);
    }

    /// All requests so far.
    #[must_use]
    pub fn log(&self) -> Vec<Request> {
        lock(&self.shared.log).clone()
    }

    /// The number of requests for objects rather than a table.
    #[must_use]
    pub fn whole_lists(&self) -> usize {
        lock(&self.shared.log).iter().filter(|request| !request.wants_table()).count()
    }

    /// The number of requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        lock(&self.shared.log).len()
    }

    /// The number of accepted connections, including failed handshakes.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The number of open connections.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        lock(&self.shared.open).len()
    }

    /// The bytes of answers written, before TLS.
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
            // Tests check the client, not how a connection ends.
            let _ = connection::serve(stream, &worker);
            lock(&worker.open).remove(&number);
        };
        let thread = std::thread::Builder::new().name("api-conn".to_owned()).spawn(serve);
        drop(thread.expect("spawn a connection of the API server"));
    }
}

/// Writes a service account as the kubelet mounts it: `token`, `ca.crt`, `namespace`, each replaced
/// atomically.
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

/// Replaces a file atomically.
///
/// # Panics
/// When the folder cannot be written.
pub fn write_file(dir: &Path, name: &str, text: &str) {
    let (new, path) = (dir.join(format!(".{name}.new")), dir.join(name));
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, &path))
        .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}
