//! From the API server's host to its address.
//!
//! ureq's own resolver starts a thread for each look-up under a deadline, also for plain addresses,
//! and panics where the kernel refuses a thread. `KUBERNETES_SERVICE_HOST` is an address in every
//! usual cluster: no thread for it.

use std::net::{IpAddr, SocketAddr};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Plain addresses directly, names by ureq's resolver.
#[derive(Debug, Default)]
pub(super) struct AddressFirst(DefaultResolver);

impl Resolver for AddressFirst {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match (ip, uri.port_u16()) {
            (Ok(ip), Some(port)) => {
                let mut found = self.empty();
                found.push(SocketAddr::new(ip, port));
                Ok(found)
            }
            _ => self.0.resolve(uri, config, timeout),
        }
    }
}
