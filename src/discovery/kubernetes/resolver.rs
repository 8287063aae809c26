//! Resolves the API server's host on the thread of the caller, and remembers its addresses.
//!
//! ureq's own resolver starts a thread for each look-up with a deadline, even for an address, and panics
//! where the kernel refuses a thread. Here none is started, so none can be refused, and none piles up while
//! a name server is away. The price: a look-up keeps the resolver's own timeout (musl: 5 s for one name
//! unless resolv.conf says otherwise) and may overrun the deadline of the list.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Addresses of a host that are tried; ureq has room for no more.
const MAX_ADDRESSES: usize = 16;

/// Reads addresses itself, and resolves names where it is called. Clones share the last addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct InlineResolver(Arc<Mutex<Vec<SocketAddr>>>);

impl InlineResolver {
    /// The addresses of the last look-up; none before the first.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Resolver for InlineResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        // The client's URLs always have a host and a port.
        let server = uri.authority().ok_or(ureq::Error::HostNotFound)?;
        let mut addresses = self.empty();
        if let Ok(address) = server.as_str().parse::<SocketAddr>() {
            addresses.push(address);
        } else {
            let port = server.port_u16().ok_or(ureq::Error::HostNotFound)?;
            let found = (server.host(), port).to_socket_addrs().map_err(|error| {
                ureq::Error::Io(io::Error::new(error.kind(), format!("resolve the name: {error}")))
            })?;
            found.take(MAX_ADDRESSES).for_each(|address| addresses.push(address));
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}
