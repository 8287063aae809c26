//! Parses arguments and environment once, into valid types. Reports all wrong settings together, each
//! with its name, value and bound.

mod parse;
mod settings;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::discovery::fixed::Entry;
use crate::name::{Instance, NodeName};
pub(crate) use parse::{duration as parse_duration, format_duration};
pub(crate) use settings::listen_address;
pub use settings::{DEFAULT_PORT, SETTINGS, Setting};
pub(crate) use values::Values;

/// The agent's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// This node's name in labels and headers.
    pub node: NodeName,
    /// This agent's pod, to recognise itself in the pod list.
    pub pod_name: Option<String>,
    /// This agent's instance: the pod's UID, or a random id.
    pub instance: Instance,
    /// Whether `instance` is the pod's UID.
    pub instance_is_pod_uid: bool,
    /// The listen address; `None` for both address families at [`DEFAULT_PORT`].
    pub listen: Option<SocketAddr>,
    /// The port on which peers listen.
    pub peer_port: u16,
    /// Time between the probes of one peer.
    pub interval: Duration,
    /// Time limit of a whole probe.
    pub timeout: Duration,
    /// Time between the large probes of one peer; zero for none.
    pub large_interval: Duration,
    /// The port at which the hosts behind the peers are asked for a sign of life; `None` for none.
    pub host_port: Option<u16>,
    /// Minimum time between two refreshes of the peer list.
    pub refresh_interval: Duration,
    /// How peers are found.
    pub discovery: DiscoveryConfig,
    /// The directory in which the last good peer list is cached.
    pub state_dir: Option<PathBuf>,
    /// How long to keep answering after SIGTERM.
    pub drain: Duration,
    /// Consecutive slots without a success before the verdict is down.
    pub failure_threshold: u32,
    /// Histogram bounds in seconds, in ascending order.
    pub buckets: Vec<f64>,
    /// Whether surveys may have this agent rest.
    pub survey: bool,
    /// The log filter.
    pub log: String,
}

/// How peers are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryConfig {
    /// Through the API server.
    Kubernetes {
        /// Host or address of the API server, without brackets.
        host: String,
        /// Its port.
        port: u16,
        /// The directory with `token`, `ca.crt` and `namespace`.
        service_account_dir: PathBuf,
        /// The namespace of the agents' pods.
        namespace: String,
        /// The label selector of the agents' pods.
        label_selector: String,
    },
    /// `WYLIS_PEERS`.
    Fixed(Vec<Entry>),
    /// `WYLIS_PEERS_FILE`.
    File(PathBuf),
}

/// A setting or an argument that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}{}: {problem}", .value.as_ref().map(|value| format!(" = {value:?}")).unwrap_or_default())]
pub struct SettingError {
    /// The variable, flag or argument, as the user wrote it.
    pub name: String,
    /// Its value; `None` when it has none.
    pub value: Option<String>,
    /// What is wrong, or what the value must be.
    pub problem: String,
}

/// Reads the agent's settings from arguments (without the program's name) and environment.
///
/// # Errors
/// Every setting that is wrong, unknown or missing, together.
pub fn read(
    arguments: &[String],
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Vec<SettingError>> {
    settings::validate(settings::collect(arguments, environment))
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Keeps every pair of nodes warm with constant blank requests, and measures them.\n\n\
         Usage: wylis [--SETTING VALUE]...             run the agent\n\
         \x20      wylis peers|cluster|history|probe|survey ...   ask a running agent; see wylis COMMAND --help\n\n\
         Each setting is a flag or an environment variable; the flag wins.\n\n",
    );
    for setting in SETTINGS {
        let default = if setting.default == "required" { "" } else { "default: " };
        text.push_str(&format!(
            "  {:<26} {}\n  {:<26} {} [{default}{}]\n",
            setting.flag(),
            setting.variable,
            "",
            setting.help,
            setting.default
        ));
    }
    text.push_str("\n  -h, --help                 print this\n  -V, --version              print the version\n");
    text
}

#[cfg(test)]
mod tests;
