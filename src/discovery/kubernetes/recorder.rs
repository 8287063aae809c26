//! Remembers to which addresses the API server's name resolved last: no peer has one of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The addresses of the last look-up; clones share them. ureq has room for 16.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Vec<IpAddr>>>);

/// A resolver whose answers are recorded.
#[derive(Debug)]
pub(super) struct Recorded<R> {
    inner: R,
    recorder: Recorder,
}

impl Recorder {
    /// The addresses of the last look-up; none before the first.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn of<R>(&self, inner: R) -> Recorded<R> {
        Recorded { inner, recorder: self.clone() }
    }
}

impl<R: Resolver> Resolver for Recorded<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let addresses = found.iter().map(SocketAddr::ip).collect();
        *self.recorder.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
        Ok(found)
    }
}
