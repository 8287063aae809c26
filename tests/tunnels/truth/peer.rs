//! Faults of the peer's agent, and other servers at its address.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wylis_harness::netns::Entrance;

use super::table::{self, Case};
use super::trial::Trial;
use crate::network::Pod;

#[test]
fn agent_killed() {
    let Some(mut trial) = Trial::begin(table::KILLED) else { return };
    let pod = trial.inject(|mesh| mesh.agents.kill("n2"));
    trial.wait_for_verdicts();
    trial.end(|trial| trial.mesh.restart(2, &pod));
}

#[test]
fn agent_frozen() {
    let Some(mut trial) = Trial::begin(table::FROZEN) else { return };
    trial.observer.unasked.insert(2);
    trial.inject(|mesh| mesh.agents.agent("n2").signal(libc::SIGSTOP));
    trial.wait_for_verdicts();
    trial.end(|trial| {
        trial.mesh.agents.agent("n2").signal(libc::SIGCONT);
        trial.observer.unasked.clear();
    });
}

/// The agent of B ends, another server takes its address, and later the agent returns.
fn with_replaced_agent<T>(case: &'static Case, by: impl FnOnce(&super::TunnelMesh) -> T) {
    let Some(mut trial) = Trial::begin(case) else { return };
    let (pod, other) = trial.inject(|mesh| {
        let pod = mesh.agents.kill("n2");
        (pod, by(mesh))
    });
    trial.wait_for_verdicts();
    trial.end(|trial| {
        drop(other);
        trial.mesh.restart(2, &pod);
    });
}

#[test]
fn address_taken_over_by_another_agent() {
    with_replaced_agent(table::TAKEN_BY_AGENT, |mesh| mesh.stranger(2));
}

#[test]
fn address_taken_over_by_a_web_server() {
    with_replaced_agent(table::TAKEN_BY_WEB_SERVER, |mesh| WebServer::start(&mesh.pods[&2]));
}

/// A foreign web server; stopped when dropped.
struct WebServer {
    inside: Entrance,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WebServer {
    fn start(pod: &Pod) -> Self {
        let inside = pod.namespace.entrance();
        let address = SocketAddr::new(pod.address, wylis_harness::mesh::PORT);
        let listener = inside.within(|| TcpListener::bind(address)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // The client may have closed the connection.
                let _ = stream.and_then(not_found);
            }
        });
        Self { inside, address, stop, thread: Some(thread) }
    }
}

fn not_found(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let _ = stream.read(&mut [0; 1024])?;
    stream.write_all(
        b"HTTP/1.1 404 Not Found\r\nServer: web\r\nContent-Type: text/plain\r\n\
          Content-Length: 10\r\n\r\nnot found\n",
    )
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accept.
        drop(self.inside.within(|| TcpStream::connect(self.address)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
