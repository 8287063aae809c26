//! Peers from the API server: one list of pods, over one verified connection, within one deadline.
//!
//! A plain periodic list, never a watch. Served from the API server's cache, since a thousand
//! agents must not reach etcd.

mod client;
mod credentials;
mod resolver;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::failure::{DiscoveryError, host_and_port};
use super::pods::{self, Own};
use super::{Source, Told, unix_seconds};
use crate::peer::PeerSet;

use client::{Client, Target};
use credentials::Credentials;

/// The deadline of one whole list, a second attempt after a 401 included: a list of 1,000 pods
/// takes 0.1 s on a good link and 5 s on one of 10 Mbit/s.
pub const LIST_DEADLINE: Duration = Duration::from_secs(10);
/// The version to begin with: whatever the API server's cache has.
const ANY_VERSION: &str = "0";

/// Everything that a list needs to know.
#[derive(Debug, Clone)]
pub struct KubernetesSettings {
    /// `KUBERNETES_SERVICE_HOST`: an address or a name; IPv6 with or without brackets.
    pub host: String,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: u16,
    /// Holds `token` and `ca.crt`.
    pub service_account_dir: PathBuf,
    /// Where the pods are.
    pub namespace: String,
    /// Which pods.
    pub label_selector: String,
    /// Who we are.
    pub own: Own,
    /// Where peers listen.
    pub peer_port: u16,
    /// The deadline of one whole list; [`LIST_DEADLINE`] but in tests.
    pub deadline: Duration,
}

/// The namespace that the service account names, for when none is set.
///
/// # Errors
/// When the file cannot be read.
pub fn service_account_namespace(dir: &Path) -> std::io::Result<String> {
    credentials::read_text(&dir.join("namespace"), credentials::MAX_NAMESPACE)
}

/// Lists pods from the API server.
pub struct KubernetesSource {
    settings: KubernetesSettings,
    client: Client,
    credentials: Credentials,
    /// The last version seen: behind several API servers, one of them may lag.
    version: String,
    malformed: Told,
}

impl KubernetesSource {
    /// A source with these settings; nothing is read or connected yet.
    #[must_use]
    pub fn new(settings: KubernetesSettings) -> Self {
        let server = host_and_port(&settings.host, settings.port);
        Self {
            client: Client::new(server),
            credentials: Credentials::new(&settings.service_account_dir),
            version: ANY_VERSION.to_owned(),
            malformed: Told::new("malformed items in the pod list"),
            settings,
        }
    }

    /// One attempt, or two when the first is answered with 401: the token may have rotated between
    /// our reading and the server's.
    fn fetch(&mut self) -> Result<super::decode::Listing, DiscoveryError> {
        let deadline = Instant::now() + self.settings.deadline;
        let first = self.attempt(deadline);
        match first {
            Err(DiscoveryError::Unauthorized) => self.attempt(deadline),
            other => other,
        }
    }

    fn attempt(&mut self, deadline: Instant) -> Result<super::decode::Listing, DiscoveryError> {
        self.client.trust(self.credentials.ca()?);
        let target = Target {
            namespace: &self.settings.namespace,
            selector: &self.settings.label_selector,
            version: &self.version,
            own_name: self.settings.own.pod_name.as_deref(),
            limit: self.settings.deadline,
        };
        self.client.list(&target, self.credentials.token()?, deadline)
    }
}

impl Source for KubernetesSource {
    fn list(&mut self, wall: SystemTime) -> Result<PeerSet, DiscoveryError> {
        let listing = match self.fetch() {
            Ok(listing) => listing,
            Err(error) => {
                if refuses_version(&error) {
                    ANY_VERSION.clone_into(&mut self.version);
                }
                return Err(error);
            }
        };
        self.malformed.tell(listing.malformed, || listing.told.join(", "));
        let (own, port) = (&self.settings.own, self.settings.peer_port);
        // The server's clock set the deadlines of deletions; a board may have none worth asking.
        let now = unix_seconds(listing.date.unwrap_or(wall));
        let set = pods::choose(&listing.pods, listing.malformed, own, port, now)?;
        // Only a list that we accepted may bind what we ask for next.
        self.version = listing.version.unwrap_or_else(|| ANY_VERSION.to_owned());
        Ok(set)
    }
}

/// 400 and 410 refuse a version that is too old, 504 one that the server has not reached, which
/// never ends where etcd was restored from a backup.
fn refuses_version(error: &DiscoveryError) -> bool {
    matches!(
        error,
        DiscoveryError::BadStatus { status: 400 | 410 }
            | DiscoveryError::ServerError { status: 504, .. }
    )
}
