//! WireGuard in userspace, one process for each host, since test machines' kernels may have none.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::netns::{Namespace, feed};
use crate::process::bind_to_us;
use crate::wait_until;

/// The port of every host.
pub const PORT: u16 = 51820;
/// Where the processes can be configured: one socket for each, in the whole machine's name space.
const SOCKETS: &str = "/var/run/wireguard";
/// Names of ours begin so; the pid and a number follow. An interface's name has 15 octets at most.
const PREFIX: &str = "wy";

/// One host's end of the tunnels; killed when dropped.
#[derive(Debug)]
pub struct WireGuard {
    name: String,
    private_key: String,
    public_key: String,
    child: Child,
}

/// Another host, as this one is to know it.
#[derive(Debug)]
pub struct Peer<'a> {
    /// The other end.
    pub end: &'a WireGuard,
    /// Where it is found; `None` for one that has to call first.
    pub endpoint: Option<SocketAddr>,
    /// The address inside the tunnel.
    pub inner: Ipv4Addr,
}

impl WireGuard {
    /// Starts the process in that host; its log goes to `log`. [`WireGuard::configure`] waits for
    /// it, so that several start side by side.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(host: &Namespace, log: &Path) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        assert!(name.len() <= 15, "{name} is too long for an interface");
        let log = File::create(log).expect("a log in a folder of ours");
        let mut command = host.command("wireguard-go");
        command
            .args(["-f", &name])
            // Many run on a small machine.
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log);
        bind_to_us(&mut command);
        let child = command.spawn().expect("start wireguard-go");
        let private_key = feed("wg", &["genkey"], "");
        let public_key = feed("wg", &["pubkey"], &private_key).trim().to_owned();
        Self { name, private_key, public_key, child }
    }

    /// The name of its interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until it can be configured, and does so.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn configure(&self, peers: &[Peer<'_>]) {
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

    /// With how many peers a handshake has been made.
    ///
    /// # Panics
    /// When it cannot be asked.
    #[must_use]
    pub fn sessions(&self) -> usize {
        let lines = feed("wg", &["show", &self.name, "latest-handshakes"], "");
        lines.lines().filter(|line| !line.ends_with("\t0")).count()
    }

    /// Sends a signal: SIGSTOP freezes the tunnel.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: a child that we have not yet waited for keeps its pid.
        unsafe { libc::kill(pid, signal) };
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

/// Removes the sockets of tests that died: their processes died with them.
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
