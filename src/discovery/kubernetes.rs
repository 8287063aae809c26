//! Peers from the API server: a list of pods, over a verified connection, within one deadline.
//!
//! A periodic list, never a watch. The API server answers from its cache, since a thousand agents must
//! not reach etcd. A refresh asks for the table form first, which shows at a fiftieth of the cost that
//! nothing has changed.

mod bounded;
mod client;
mod credentials;
mod decode;
mod lenient;
mod pods;
mod provider;
mod resolver;
mod table;
mod time;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::error::DiscoveryError;
use super::{AddressRule, LogOnChange, PeerSource, unix_seconds};
use crate::host_port::HostPort;
use crate::peer::PeerSet;

use client::{Client, Form, Target};
use credentials::Credentials;
use decode::Listing;
use pods::Criteria;
pub use pods::Own;
use table::TableDigest;

/// The deadline of one list, a second attempt after a 401 included: a list of 1,000 pods takes 0.1 s on
/// a good link and 5 s at 10 Mbit/s.
pub const LIST_DEADLINE: Duration = Duration::from_secs(10);
/// After so many tables the pods are read again even if nothing has changed. They show what rows lack,
/// such as a pod that is unready because its node is gone. 20 refreshes take ten minutes.
const MAX_TABLES: u32 = 20;
/// The first resource version: whatever the API server's cache holds.
const ANY_VERSION: &str = "0";

/// Settings of a source.
#[derive(Debug, Clone)]
pub struct KubernetesSettings {
    /// `KUBERNETES_SERVICE_HOST`: an address or a name; IPv6 with or without brackets.
    pub host: String,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: u16,
    /// Directory with `token` and `ca.crt`.
    pub service_account_dir: PathBuf,
    /// The namespace of the pods.
    pub namespace: String,
    /// The label selector of the pods.
    pub label_selector: String,
    /// This agent's own pod.
    pub own: Own,
    /// The port of the peers.
    pub peer_port: u16,
    /// Which addresses of pods are probed.
    pub rule: AddressRule,
    /// The deadline of one list: [`LIST_DEADLINE`] except in tests.
    pub deadline: Duration,
}

/// The service account's namespace.
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
    /// The last resource version: one of several API servers may lag behind.
    version: String,
    /// What the last set rests on; `None` where the server sent no table.
    basis: Option<Basis>,
    malformed: LogOnChange,
    refused: LogOnChange,
}

/// What a set rests on.
struct Basis {
    /// The table just before the list.
    table: TableDigest,
    /// Tables since the list.
    tables: u32,
    /// Until when the same pods yield the same peers, in seconds since 1970.
    same_until: i64,
}

impl KubernetesSource {
    /// A source with these settings. It reads no file and connects to nothing yet.
    #[must_use]
    pub fn new(settings: KubernetesSettings) -> Self {
        let host = settings.host.trim_matches(['[', ']']);
        Self {
            client: Client::new(HostPort::new(host, settings.port).to_string()),
            credentials: Credentials::new(&settings.service_account_dir),
            version: ANY_VERSION.to_owned(),
            basis: None,
            malformed: LogOnChange::new("malformed items in the pod list"),
            refused: LogOnChange::new("pods with an address that is not probed"),
            settings,
        }
    }

    /// Makes one attempt, and another after a 401, since the token may have rotated between the agent's
    /// reading and the server's.
    fn fetch(
        &mut self,
        form: Form,
        version: &str,
        deadline: Instant,
    ) -> Result<Listing, DiscoveryError> {
        let Self { settings, client, credentials, .. } = self;
        let target = Target {
            namespace: &settings.namespace,
            selector: &settings.label_selector,
            version,
            form,
            own_name: settings.own.pod_name.as_deref(),
            limit: settings.deadline,
        };
        let mut attempt =
            || client.list(&target, credentials.ca()?, credentials.token()?, deadline);
        match attempt() {
            Err(DiscoveryError::Unauthorized) => attempt(),
            result => result,
        }
    }

    /// Reads the table, and then the pods if the table has changed since they were last read.
    fn refresh(&mut self, wall: SystemTime) -> Result<Option<PeerSet>, DiscoveryError> {
        let deadline = Instant::now() + self.settings.deadline;
        let version = self.version.clone();
        let table = match self.fetch(Form::Table, &version, deadline) {
            Err(error) if is_table_error(&error) => None,
            result => Some(result?),
        };
        match table {
            // The server supports no tables and sent the pods.
            Some(pods) if pods.table.is_none() => self.accept(pods, wall),
            Some(table) if self.is_unchanged(&table, wall) => {
                self.set_version(table.version);
                Ok(None)
            }
            table => {
                let digest = table.as_ref().and_then(|table| table.table);
                // No older than the table, so that no change between the two is missed.
                let version = table.and_then(|table| table.version).unwrap_or(version);
                let pods = self.fetch(Form::Pods, &version, deadline)?;
                self.accept(Listing { table: digest, ..pods }, wall)
            }
        }
    }

    /// Whether the last set still holds, as far as a table shows.
    fn is_unchanged(&mut self, table: &Listing, wall: SystemTime) -> bool {
        let Some(basis) = &mut self.basis else { return false };
        basis.tables += 1;
        let is_same = table.table == Some(basis.table);
        is_same && basis.tables < MAX_TABLES && table.now(wall) <= basis.same_until
    }

    /// The peers among the pods.
    fn accept(
        &mut self,
        list: Listing,
        wall: SystemTime,
    ) -> Result<Option<PeerSet>, DiscoveryError> {
        self.malformed.update(list.malformed, || list.examples.join(", "));
        let KubernetesSettings { own, peer_port: port, rule, .. } = &self.settings;
        let rule = &rule.with_api_server(&self.client.addresses());
        let now = list.now(wall);
        let criteria = Criteria { own, port: *port, rule, now };
        let (set, refused) = pods::select(&list.pods, list.malformed, &criteria)?;
        let count = usize::try_from(set.pods.bad_address).unwrap_or(usize::MAX);
        self.refused.update(count, || refused.join(", "));
        // Only the version of an accepted list binds the next request.
        self.set_version(list.version);
        let same_until = pods::same_until(&list.pods, now);
        self.basis = list.table.map(|table| Basis { table, tables: 0, same_until });
        Ok(Some(set))
    }

    fn set_version(&mut self, version: Option<String>) {
        self.version = version.unwrap_or_else(|| ANY_VERSION.to_owned());
    }
}

impl PeerSource for KubernetesSource {
    fn list(&mut self, wall: SystemTime) -> Result<Option<PeerSet>, DiscoveryError> {
        let result = self.refresh(wall);
        if result.as_ref().is_err_and(is_version_error) {
            self.set_version(None);
        }
        result
    }
}

impl Listing {
    /// Seconds since 1970 by the clock of the server, which set the deadlines of deletions. The agent's
    /// own clock may be wrong, as on a board without a battery.
    fn now(&self, wall: SystemTime) -> i64 {
        unix_seconds(self.date.unwrap_or(wall))
    }
}

/// Whether a request for pods may still succeed: a proxy refuses tables, or the columns are unknown.
const fn is_table_error(error: &DiscoveryError) -> bool {
    matches!(error, DiscoveryError::BadStatus { status: 406 } | DiscoveryError::BadBody { .. })
}

/// Statuses 400 and 410 mean that the resource version is too old, 504 that the server has not reached
/// it, which it never does after a restore of etcd from a backup.
const fn is_version_error(error: &DiscoveryError) -> bool {
    matches!(
        error,
        DiscoveryError::BadStatus { status: 400 | 410 }
            | DiscoveryError::ServerError { status: 504, .. }
    )
}
