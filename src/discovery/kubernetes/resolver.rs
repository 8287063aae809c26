//! Resolves the API server's host, without a thread where it is an address.
//!
//! ureq's own resolver starts a thread for each look-up with a deadline, even for an address, and
//! panics where the kernel refuses a thread. `KUBERNETES_SERVICE_HOST` is usually an address.

use std::net::SocketAddr;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Reads addresses itself and leaves names to ureq's resolver.
#[derive(Debug, Default)]
pub(super) struct AddressFirst(DefaultResolver);

impl Resolver for AddressFirst {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        // The client's URLs always have a port.
        match uri.authority().and_then(|server| server.as_str().parse::<SocketAddr>().ok()) {
            Some(address) => {
                let mut addresses = self.empty();
                addresses.push(address);
                Ok(addresses)
            }
            None => self.0.resolve(uri, config, timeout),
        }
    }
}
