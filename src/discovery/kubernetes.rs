//! Peers from the API server: a list of pods, over verified connections, within one deadline.
//!
//! A plain periodic list, never a watch. Served from the API server's cache, since a thousand
//! agents must not reach etcd; and in the table form first, which tells for a fiftieth of the cost
//! that nothing has changed.

mod client;
mod credentials;
mod decode;
mod lenient;
mod pods;
mod resolver;
mod table;
mod time;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::error::{DiscoveryError, host_and_port};
use super::{LogOnChange, PeerSource, unix_seconds};
use crate::peer::PeerSet;

use client::{Client, Form, Target};
use credentials::Credentials;
use decode::Listing;
pub use pods::Own;
use table::RowSum;

/// The deadline of one whole list, a second attempt after a 401 included: a list of 1,000 pods
/// takes 0.1 s on a good link and 5 s on one of 10 Mbit/s.
pub const LIST_DEADLINE: Duration = Duration::from_secs(10);
/// So many tables in a row may say that nothing has changed: what they do not show (a pod that is
/// called unready because its node is gone) is seen at least once in ten minutes, or 20 refreshes.
const TABLES_MOST: u32 = 20;
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
    /// What the last set came from; `None` where no table came with it.
    seen: Option<Seen>,
    malformed: LogOnChange,
}

/// The objects that the last set came from.
struct Seen {
    /// What the rows told just before.
    rows: RowSum,
    /// How many tables came since.
    tables: u32,
    /// Until when the same pods amount to the same peers, in seconds since 1970.
    same_until: i64,
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
            seen: None,
            malformed: LogOnChange::new("malformed items in the pod list"),
            settings,
        }
    }

    /// One attempt, or two when the first is answered with 401: the token may have rotated between
    /// our reading and the server's.
    fn fetch(
        &mut self,
        form: Form,
        version: &str,
        deadline: Instant,
    ) -> Result<Listing, DiscoveryError> {
        let first = self.attempt(form, version, deadline);
        match first {
            Err(DiscoveryError::Unauthorized) => self.attempt(form, version, deadline),
            other => other,
        }
    }

    fn attempt(
        &mut self,
        form: Form,
        version: &str,
        deadline: Instant,
    ) -> Result<Listing, DiscoveryError> {
        self.client.trust(self.credentials.ca()?);
        let target = Target {
            namespace: &self.settings.namespace,
            selector: &self.settings.label_selector,
            version,
            form,
            own_name: self.settings.own.pod_name.as_deref(),
            limit: self.settings.deadline,
        };
        self.client.list(&target, self.credentials.token()?, deadline)
    }

    /// The rows first; the objects only where the rows are not those that came with the last objects.
    fn look(&mut self, wall: SystemTime) -> Result<Option<PeerSet>, DiscoveryError> {
        let deadline = Instant::now() + self.settings.deadline;
        let version = self.version.clone();
        let table = match self.fetch(Form::Table, &version, deadline) {
            Err(error) if is_no_table(&error) => None,
            other => Some(other?),
        };
        match table {
            // It knows no tables, and gave the objects instead.
            Some(objects) if objects.rows.is_none() => self.accept(objects, wall),
            Some(table) if self.is_unchanged(&table, wall) => {
                self.carry(table.version);
                Ok(None)
            }
            table => {
                let rows = table.as_ref().and_then(|table| table.rows);
                // No older than the rows, or a change between the two would go unseen.
                let version = table.and_then(|table| table.version).unwrap_or(version);
                let objects = self.fetch(Form::Objects, &version, deadline)?;
                self.accept(Listing { rows, ..objects }, wall)
            }
        }
    }

    /// Whether the last set is still right, as far as rows can tell.
    fn is_unchanged(&mut self, table: &Listing, wall: SystemTime) -> bool {
        let Some(seen) = &mut self.seen else { return false };
        seen.tables += 1;
        let rows = table.rows == Some(seen.rows);
        rows && seen.tables < TABLES_MOST && table.now(wall) <= seen.same_until
    }

    /// The set that these objects amount to.
    fn accept(
        &mut self,
        objects: Listing,
        wall: SystemTime,
    ) -> Result<Option<PeerSet>, DiscoveryError> {
        self.malformed.tell(objects.malformed, || objects.told.join(", "));
        let (own, port) = (&self.settings.own, self.settings.peer_port);
        let now = objects.now(wall);
        let set = pods::choose(&objects.pods, objects.malformed, own, port, now)?;
        // Only a list that we accepted may bind what we ask for next.
        self.carry(objects.version);
        let same_until = pods::same_until(&objects.pods, now);
        self.seen = objects.rows.map(|rows| Seen { rows, tables: 0, same_until });
        Ok(Some(set))
    }

    fn carry(&mut self, version: Option<String>) {
        self.version = version.unwrap_or_else(|| ANY_VERSION.to_owned());
    }
}

impl PeerSource for KubernetesSource {
    fn list(&mut self, wall: SystemTime) -> Result<Option<PeerSet>, DiscoveryError> {
        let result = self.look(wall);
        if result.as_ref().is_err_and(refuses_version) {
            self.carry(None);
        }
        result
    }
}

impl Listing {
    /// By the server's clock, which set the deadlines of deletions; a board may have none worth asking.
    fn now(&self, wall: SystemTime) -> i64 {
        unix_seconds(self.date.unwrap_or(wall))
    }
}

/// Whether the answer to a table may be the form's fault: some proxy refuses it, or the columns are
/// not those that we know.
const fn is_no_table(error: &DiscoveryError) -> bool {
    matches!(error, DiscoveryError::BadStatus { status: 406 } | DiscoveryError::BadBody { .. })
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
