//! Arguments and environment, turned once into valid types.
//!
//! The only reader of the environment. It reports every wrong setting at once, each with its name,
//! its value and its bound, and starts nothing.

mod parse;
mod settings;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::discovery::fixed::Entry;
use crate::name::{Instance, NodeName};
pub use settings::{DEFAULT_PORT, SETTINGS, Setting};

/// Everything the agent needs to know before it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Our own name in labels and headers.
    pub node: NodeName,
    /// Our own pod, to find ourselves in the list.
    pub pod_name: Option<String>,
    /// Our own life: the pod's UID, or a random id.
    pub instance: Instance,
    /// Whether `instance` is the pod's UID.
    pub instance_is_pod_uid: bool,
    /// The public port; `None` for the default of both families.
    pub listen: Option<SocketAddr>,
    /// Where peers listen.
    pub peer_port: u16,
    /// Spacing of one peer's probes.
    pub interval: Duration,
    /// One probe's whole budget.
    pub timeout: Duration,
    /// Spacing of one peer's large probes; zero for none.
    pub large_interval: Duration,
    /// Spacing of the peer list's refreshes, the least.
    pub refresh_interval: Duration,
    /// How peers are found.
    pub discovery: DiscoveryConfig,
    /// Where the last good list is kept.
    pub state_dir: Option<PathBuf>,
    /// How long to keep answering after SIGTERM.
    pub drain: Duration,
    /// Slots in a row without a success before the verdict is down.
    pub failure_threshold: u32,
    /// Histogram bounds in seconds, rising.
    pub buckets: Vec<f64>,
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
        /// The namespace of the pods.
        namespace: String,
        /// The selector of the pods.
        label_selector: String,
    },
    /// `WYLIS_PEERS`.
    Fixed(Vec<Entry>),
    /// `WYLIS_PEERS_FILE`.
    File(PathBuf),
}

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Run the agent.
    Run(Box<Config>),
    /// Print the settings.
    Help,
    /// Print the version.
    Version,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// The variable or the flag, as the user wrote it.
    pub name: String,
    /// Its value; `None` when it is missing.
    pub value: Option<String>,
    /// What it must be.
    pub expected: String,
}

impl std::fmt::Display for SettingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value:?}: {}", self.name, self.expected),
            None => write!(f, "{}: {}", self.name, self.expected),
        }
    }
}

impl std::error::Error for SettingError {}

/// Reads arguments (without the program's name) and environment.
///
/// # Errors
/// Every setting that is wrong, unknown or missing, together.
pub fn read(
    arguments: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Command, Vec<SettingError>> {
    let arguments: Vec<String> = arguments.into_iter().collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return Ok(Command::Help);
    }
    if arguments.iter().any(|argument| argument == "--version" || argument == "-V") {
        return Ok(Command::Version);
    }
    let mut given = settings::Given::default();
    given.environment(environment);
    given.arguments(arguments);
    given.validate().map(|config| Command::Run(Box::new(config)))
}

/// A duration with its unit, in a range.
///
/// # Errors
/// What it must be, with `example`.
pub fn duration_between(
    text: &str,
    example: Duration,
    range: RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let read = parse::duration(text.trim()).filter(|duration| range.contains(duration));
    read.ok_or_else(|| {
        let [example, least, most] = [example, *range.start(), *range.end()].map(parse::shown);
        format!("must be a duration with its unit, such as {example}, from {least} to {most}")
    })
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Keeps every pair of nodes warm with constant blank requests, and measures them.\n\n\
         Usage: wylis [--SETTING VALUE]...\n\
         \x20      wylis peers|cluster|probe ...   what it knows, for people; see their --help\n\n\
         Each setting is a flag or an environment variable; the flag wins.\n\n",
    );
    for setting in SETTINGS {
        text.push_str(&format!(
            "  {:<26} {}\n  {:<26} {} [default: {}]\n",
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
