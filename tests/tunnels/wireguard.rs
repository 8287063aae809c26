//! Userspace WireGuard, one process for each host: the kernel of a test machine may lack it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wylis_harness::netns::{Namespace, feed};
use wylis_harness::process::{self, end_with_this_thread};
use wylis_harness::wait_until;

/// The port of every host.
pub(crate) const PORT: u16 = 51820;
/// The processes' configuration sockets, in a folder of the whole machine.
const SOCKETS: &str = "/var/run/wireguard";
/// The prefix of our interfaces' names; the process id and a number follow, within 15 bytes.
const PREFIX: &str = "wy";

/// One host's end of the tunnels; killed when dropped.
#[derive(Debug)]
pub(crate) struct WireGuard {
    name: String,
    private_key: String,
    public_key: String,
    child: Child,
}

/// Another host, as this one is configured to reach it.
#[derive(Debug)]
pub(crate) struct Peer<'a> {
    /// The other end.
    pub(crate) end: &'a WireGuard,
    /// Its address; `None` for a host that must connect first.
    pub(crate) endpoint: Option<SocketAddr>,
    /// The address inside the tunnel.
    pub(crate) inner: Ipv4Addr,
}

impl WireGuard {
    /// Starts the process on the host. [`WireGuard::configure`] waits for it, so that several can start
    /// at once.
    pub(crate) fn start(host: &Namespace, log: &Path) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        assert!(name.len() <= 15, "{name} is too long for an interface");
        let log = File::create(log).expect("create the log");
        let mut command = host.command("wireguard-go");
        command
            .args(["-f", &name])
            // Many processes share a small machine.
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log);
        end_with_this_thread(&mut command);
        let child = command.spawn().expect("start wireguard-go");
        let private_key = feed("wg", &["genkey"], "");
        let public_key = feed("wg", &["pubkey"], &private_key).trim().to_owned();
        Self { name, private_key, public_key, child }
    }

    /// The interface's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the process, and configures it.
    pub(crate) fn configure(&self, peers: &[Peer<'_>]) {
        let socket = self.socket();
        wait_until(Duration::from_secs(20), "wireguard-go is up", || socket.exists());
        let key = self.private_key.trim();
        let mut text = format!("[Interface]\nPrivateKey = {key}\nListenPort = {PORT}\n");
        for peer in peers {
            let (key, inner) = (&peer.end.public_key, peer.inner);
            text.push_str(&format!("[Peer]\nPublicKey = {key}\nAllowedIPs = {inner}/32\n"));
            if let Some(endpoint) = peer.endpoint {
                text.push_str(&format!("Endpoint = {endpoint}\n"));
            }
        }
        feed("wg", &["setconf", &self.name, "/dev/stdin"], &text);
    }

    /// Replaces one peer by this one, and leaves the others and their sessions alone. The key may be wrong.
    pub(crate) fn replace(&self, peer: &Peer<'_>, wrong_key: Option<&str>) {
        let inner = format!("{}/32", peer.inner);
        let lines = feed("wg", &["show", &self.name, "allowed-ips"], "");
        let known = lines.lines().filter_map(|line| line.split_once('\t'));
        let known: Vec<&str> = known
            .filter(|(key, ips)| *key == peer.end.public_key || *ips == inner)
            .map(|(key, _)| key)
            .collect();
        for key in known {
            feed("wg", &["set", &self.name, "peer", key, "remove"], "");
        }
        let key = wrong_key.unwrap_or(&peer.end.public_key);
        let endpoint = peer.endpoint.expect("a known endpoint").to_string();
        let peer = ["peer", key, "endpoint", &endpoint, "allowed-ips", &inner];
        feed("wg", &[&["set", self.name.as_str()], &peer[..]].concat(), "");
    }

    /// The number of peers with a completed handshake.
    pub(crate) fn sessions(&self) -> usize {
        let lines = feed("wg", &["show", &self.name, "latest-handshakes"], "");
        lines.lines().filter(|line| !line.ends_with("\t0")).count()
    }

    /// Sends a signal; SIGSTOP freezes the tunnel.
    pub(crate) fn signal(&self, signal: i32) {
        process::signal(self.child.id(), signal);
    }

    /// Replaces the prefixes that the tunnel to this peer accepts and is given.
    pub(crate) fn allow(&self, end: &Self, prefixes: &str) {
        let key = end.public_key.as_str();
        feed("wg", &["set", &self.name, "peer", key, "allowed-ips", prefixes], "");
    }

    /// Removes the tunnel to this peer.
    pub(crate) fn remove(&self, end: &Self) {
        feed("wg", &["set", &self.name, "peer", &end.public_key, "remove"], "");
    }

    fn socket(&self) -> PathBuf {
        Path::new(SOCKETS).join(format!("{}.sock", self.name))
    }
}

impl Drop for WireGuard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.socket());
    }
}

/// A public key without an owner.
pub(crate) fn another_key() -> String {
    feed("wg", &["pubkey"], &feed("wg", &["genkey"], "")).trim().to_owned()
}

/// Removes the sockets of killed tests; their processes ended with them.
fn sweep() {
    let Ok(sockets) = std::fs::read_dir(SOCKETS) else { return };
    for name in sockets.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let pid = pid.filter(|pid| pid.parse::<u32>().is_ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_file(Path::new(SOCKETS).join(name));
        }
    }
}
