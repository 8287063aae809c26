//! Workloads: pods that listen on a port and connect to each other, with a new connection each time.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use wylis_harness::netns::Entrance;
use wylis_harness::wait_until;

use super::network::Network;

/// A connection that takes this long needed a retransmit: the kernel sends the first after 1 s.
pub(crate) const SLOW: Duration = Duration::from_secs(1);
/// Connections from node N go to this port plus N.
const FIRST_PORT: u16 = 8000;

/// A client in one node's workload, and its server in another's.
pub(crate) struct Link {
    client: Entrance,
    server: TcpListener,
    target: SocketAddr,
}

/// The results of some connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) connections: u32,
    pub(crate) slow: u32,
    pub(crate) failed: u32,
    shortest: Option<Duration>,
    longest: Option<Duration>,
}

impl Link {
    pub(crate) fn new(network: &Network, source: u8, target: u8) -> Self {
        let server = &network.host(target).workload;
        let target = SocketAddr::new(server.address, FIRST_PORT + u16::from(source));
        let listener = server.namespace.entrance().within(|| TcpListener::bind(target));
        let listener = listener.unwrap_or_else(|error| panic!("listen on {target}: {error}"));
        listener.set_nonblocking(true).unwrap();
        let client = network.host(source).workload.namespace.entrance();
        Self { client, server: listener, target }
    }

    /// Connects and closes both ends at once, so that the pair is silent afterwards. Returns the connect
    /// time; `None` after `limit`.
    pub(crate) fn connect(&self, limit: Duration) -> Option<Duration> {
        let (took, connected) = self.client.within(|| {
            let begun = Instant::now();
            let connected = TcpStream::connect_timeout(&self.target, limit);
            (begun.elapsed(), connected)
        });
        let client = connected.ok()?;
        let mut server = None;
        wait_until(Duration::from_secs(20), "the server accepts the connection", || {
            server = self.server.accept().ok();
            server.is_some()
        });
        drop(client);
        drop(server);
        Some(took)
    }
}

impl Tally {
    pub(crate) fn add(&mut self, took: Option<Duration>) {
        self.connections += 1;
        let Some(took) = took else {
            self.failed += 1;
            return;
        };
        self.slow += u32::from(took >= SLOW);
        self.shortest = Some(self.shortest.map_or(took, |shortest| shortest.min(took)));
        self.longest = self.longest.max(Some(took));
    }

    pub(crate) fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |sum, one| Self {
            connections: sum.connections + one.connections,
            slow: sum.slow + one.slow,
            failed: sum.failed + one.failed,
            shortest: sum.shortest.into_iter().chain(one.shortest).min(),
            longest: sum.longest.max(one.longest),
        })
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { connections, slow, failed, .. } = self;
        write!(f, "{connections} connections, {slow} slow, {failed} failed")?;
        if let (Some(shortest), Some(longest)) = (self.shortest, self.longest) {
            let seconds = |time: Duration| time.as_secs_f64();
            write!(f, " (connected in {:.3} to {:.3} s)", seconds(shortest), seconds(longest))?;
        }
        Ok(())
    }
}
