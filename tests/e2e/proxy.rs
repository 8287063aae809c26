//! `kubectl proxy`: plain HTTP to the API server with kubectl's rights.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use wylis_harness::http::{self, Response};
use wylis_harness::kube::{Api, Request};

use crate::cluster::Cluster;

const LIMIT: Duration = Duration::from_secs(30);

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Proxy {
    /// `arguments` select kubectl's identity.
    pub(crate) fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        // By default the proxy itself refuses some paths.
        let proxy = ["proxy", "--port=0", "--reject-paths=^nothing$"];
        let mut command = cluster.command(&[&proxy[..], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap().parse().expect("an address");
        Self { child, address }
    }
}

impl Api for Proxy {
    fn send(&self, request: &Request<'_>) -> io::Result<Response> {
        http::exchange(self.address, &request.bytes(self.address, ""), LIMIT)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
