//! The table of settings, and the validation of each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::values::Values;
use super::{Config, DiscoveryConfig, SettingError, parse};
use crate::discovery::fixed;
use crate::discovery::kubernetes::service_account_namespace;
use crate::name::{Instance, NodeName};

/// One setting, as `--help` and the documentation list it.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable.
    pub variable: &'static str,
    /// The default, in words.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// The port of agents by default.
pub const DEFAULT_PORT: u16 = 9050;
/// Each bound adds one series for every pair of nodes.
const MAX_BUCKETS: usize = 16;
/// The kernel's source of random UUIDs, random(4).
const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";
/// Kubernetes sets these in every container.
const KUBERNETES_HOST: &str = "KUBERNETES_SERVICE_HOST";
const KUBERNETES_PORT: &str = "KUBERNETES_SERVICE_PORT";
const KUBERNETES: [&str; 2] = [KUBERNETES_HOST, KUBERNETES_PORT];
const PORT_RANGE: &str = "a port from 1 to 65535";

macro_rules! settings {
    ($($constant:ident $variable:literal $default:literal $help:literal;)*) => {
        $(const $constant: &str = $variable;)*
        /// All settings, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[
            $(Setting { variable: $variable, default: $default, help: $help },)*
        ];
    };
}

// The default bounds put the retransmits of a SYN (just over 1, 2 and 3 s) into buckets of their own.
settings! {
    NODE_NAME "WYLIS_NODE_NAME" "required" "this node's name in labels and headers (downward API: spec.nodeName)";
    POD_NAME "WYLIS_POD_NAME" "none" "this agent's pod, to recognise itself in the pod list (downward API: metadata.name)";
    POD_UID "WYLIS_POD_UID" "none" "the UID of this agent's pod, used as its instance (downward API: metadata.uid); a random id if unset";
    LISTEN "WYLIS_LISTEN" "[::]:9050" "the listen address; the default serves IPv4 and IPv6, or 0.0.0.0:9050 on a host without IPv6";
    PEER_PORT "WYLIS_PEER_PORT" "the port of WYLIS_LISTEN" "the port on which peers listen";
    INTERVAL "WYLIS_INTERVAL" "10s" "longest time between two probes of one peer, 100ms to 1h; the mean is 0.9 of it";
    TIMEOUT "WYLIS_TIMEOUT" "5s" "time limit of a whole probe, 10ms to 1m";
    LARGE_INTERVAL "WYLIS_LARGE_INTERVAL" "5m" "time between the large probes of one peer, which find paths that drop full-size packets; 0s for none, else 1s to 24h";
    HOST_PROBE "WYLIS_HOST_PROBE" "on" "whether to ask the nodes of peers for a sign of life, with one SYN each 5 minutes, more while a peer is down: on (at the port of peers), off, or another port that is closed there";
    REFRESH_INTERVAL "WYLIS_REFRESH_INTERVAL" "30s" "minimum time between two refreshes of the pod list, 1s to 1h";
    NAMESPACE "WYLIS_NAMESPACE" "the service account's" "the namespace of the agents' pods";
    LABEL_SELECTOR "WYLIS_LABEL_SELECTOR" "app.kubernetes.io/name=wylis" "the label selector of the agents' pods";
    PEERS "WYLIS_PEERS" "none" "a fixed peer list name=host:port,... (IPv6 in brackets), used instead of Kubernetes";
    PEERS_FILE "WYLIS_PEERS_FILE" "none" "the absolute path of a file with one such entry a line, read at every refresh";
    STATE_DIR "WYLIS_STATE_DIR" "none" "the absolute path of a directory that keeps the last good peer list and the last day for a restart";
    DRAIN "WYLIS_DRAIN" "5s" "how long to keep answering after SIGTERM, 0s to 5m";
    FAILURE_THRESHOLD "WYLIS_FAILURE_THRESHOLD" "3" "consecutive slots without a success before a peer is down, 1 to 100";
    BUCKETS "WYLIS_BUCKETS" "0.001,0.005,0.02,0.1,0.5,1,2,3" "upper bounds of the latency histogram in seconds, at most 16";
    SERVICE_ACCOUNT "WYLIS_SERVICE_ACCOUNT_DIR" "/var/run/secrets/kubernetes.io/serviceaccount" "the directory with token, ca.crt and namespace";
    SURVEY "WYLIS_SURVEY" "on" "whether surveys may begin here, and have this agent rest: on or off";
    LOG "WYLIS_LOG" "info" "the log filter: a level (off, error, warn, info, debug), or module=level,... as in env_logger";
}

impl Setting {
    /// The flag of the same name: `WYLIS_NODE_NAME` is `--node-name`.
    #[must_use]
    pub fn flag(&self) -> String {
        let name = self.variable.strip_prefix("WYLIS_").unwrap_or(self.variable);
        format!("--{}", name.to_ascii_lowercase().replace('_', "-"))
    }
}

/// Kubernetes sets these in every container of a namespace that has a Service called wylis.
fn is_service_link(variable: &str) -> bool {
    variable.starts_with("WYLIS_SERVICE_HOST")
        || variable.starts_with("WYLIS_SERVICE_PORT")
        || variable == "WYLIS_PORT"
        || variable.starts_with("WYLIS_PORT_")
}

/// Collects the values of all settings; a flag replaces its variable.
pub(super) fn collect(
    arguments: &[String],
    environment: impl IntoIterator<Item = (String, String)>,
) -> Values {
    let mut values =
        Values::new(SETTINGS.iter().map(|setting| (setting.variable, setting.default)));
    for (name, value) in environment {
        let mut known = SETTINGS.iter().map(|setting| setting.variable).chain(KUBERNETES);
        if let Some(variable) = known.find(|variable| *variable == name) {
            values.insert(variable, &name, &value);
        } else if name.starts_with("WYLIS_") && !is_service_link(&name) {
            values.reject(&name, Some(&value), "unknown setting");
        }
    }
    values.add_arguments(arguments, "wylis", None, |name| {
        let setting = SETTINGS.iter().find(|setting| setting.flag() == name)?;
        Some((setting.variable, true))
    });
    values
}

/// Validates all settings.
pub(super) fn validate(mut values: Values) -> Result<Config, Vec<SettingError>> {
    let node = values.required(
        NODE_NAME,
        "is required: set it from spec.nodeName, or use --node-name",
        "1 to 253 letters, digits, '.' and '-'",
        |text| NodeName::new(text).ok(),
    );
    let pod_name = values.optional(POD_NAME, "the name of a pod", pod_name);
    let (instance, instance_is_pod_uid) = instance(&mut values);
    let expected = "an address and a port, such as 0.0.0.0:9050 or [::]:9050";
    let listen = values.optional(LISTEN, expected, listen_address);
    let peer_port = values
        .optional(PEER_PORT, PORT_RANGE, port)
        .unwrap_or(listen.map_or(DEFAULT_PORT, |address| address.port()));
    let interval = values.duration(INTERVAL, 100, 3_600_000);
    let timeout = values.duration(TIMEOUT, 10, 60_000);
    let large_interval = large_interval(&mut values);
    let host_port =
        values.or_default(HOST_PROBE, "on, off, or a port from 1 to 65535", |text| match text {
            "on" => Some(Some(peer_port)),
            "off" => Some(None),
            text => port(text).map(Some),
        });
    let refresh_interval = values.duration(REFRESH_INTERVAL, 1_000, 3_600_000);
    let state_dir = values.optional(STATE_DIR, "an absolute path", absolute);
    let drain = values.duration(DRAIN, 0, 300_000);
    let failure_threshold = values.or_default(FAILURE_THRESHOLD, "from 1 to 100", |text| {
        text.parse().ok().filter(|threshold| (1..=100).contains(threshold))
    });
    let buckets = buckets(&mut values);
    let survey = values.or_default(SURVEY, "on or off", |text| match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    });
    let log = log(&mut values);
    let discovery = discovery(&mut values);
    let required = node.zip(instance).zip(discovery);
    values.finish(required.map(|((node, instance), discovery)| Config {
        node,
        pod_name,
        instance,
        instance_is_pod_uid,
        listen,
        peer_port,
        interval,
        timeout,
        large_interval,
        host_port,
        refresh_interval,
        discovery,
        state_dir,
        drain,
        failure_threshold,
        buckets,
        survey,
        log,
    }))
}

/// The instance, and whether it is the pod's UID.
fn instance(values: &mut Values) -> (Option<Instance>, bool) {
    let uid = values
        .optional(POD_UID, "up to 63 letters, digits and '-'", |text| Instance::new(text).ok());
    let is_pod_uid = uid.is_some();
    let instance = uid.or_else(random_instance);
    if instance.is_none() {
        let problem = format!("is not set, and {RANDOM_UUID} cannot be read");
        values.reject(POD_UID, None, problem);
    }
    (instance, is_pod_uid)
}

fn large_interval(values: &mut Values) -> Duration {
    let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let hint = values.duration_hint(LARGE_INTERVAL);
    let expected = format!("0s for none, or a duration with its unit from 1s to 24h{hint}");
    values.or_default(LARGE_INTERVAL, &expected, |text| {
        parse::duration(text).filter(|value| value.is_zero() || range.contains(value))
    })
}

fn buckets(values: &mut Values) -> Vec<f64> {
    let expected =
        format!("1 to {MAX_BUCKETS} numbers of seconds in ascending order, separated by commas");
    values.or_default(BUCKETS, &expected, |text| {
        parse::buckets(text).filter(|bounds| bounds.len() <= MAX_BUCKETS)
    })
}

fn log(values: &mut Values) -> String {
    let expected = format!(
        "levels (off, error, warn, info, debug), alone or of a module (wylis::gate=debug,warn); \
         modules begin with {}",
        parse::LOGGING_CRATES.join(", ")
    );
    values.or_default(LOG, &expected, |text| parse::is_log_filter(text).then(|| text.to_owned()))
}

fn discovery(values: &mut Values) -> Option<DiscoveryConfig> {
    let service_account_dir = values.or_default(SERVICE_ACCOUNT, "an absolute path", absolute);
    let namespace = values.optional(NAMESPACE, "a namespace (lower case, digits, '-')", namespace);
    let label_selector = values.or_default(
        LABEL_SELECTOR,
        "a label selector of at most 512 printable ASCII characters, such as app=wylis",
        |text| {
            let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            (plain && (1..=512).contains(&text.len())).then(|| text.to_owned())
        },
    );
    let file = values.optional(PEERS_FILE, "an absolute path", absolute);
    let has_file = values.get(PEERS_FILE).is_some();
    let list = values.get(PEERS);
    let Some((name, list)) = list.map(|(name, list)| (name.to_owned(), list.to_owned())) else {
        return match file {
            None if !has_file => kubernetes(values, service_account_dir, namespace, label_selector),
            file => file.map(DiscoveryConfig::File),
        };
    };
    let problem = match fixed::parse(&list) {
        _ if has_file => format!("cannot be used together with {PEERS_FILE}"),
        Ok(entries) => return Some(DiscoveryConfig::Fixed(entries)),
        Err(error) => error.to_string(),
    };
    values.reject(&name, Some(&list), problem);
    None
}

fn kubernetes(
    values: &mut Values,
    service_account_dir: PathBuf,
    mut namespace: Option<String>,
    label_selector: String,
) -> Option<DiscoveryConfig> {
    let host = values.get(KUBERNETES_HOST).map(|(_, host)| host.to_owned());
    let host = host.filter(|host| !host.is_empty());
    if host.is_none() {
        let problem =
            format!("is not set: run in a Kubernetes cluster, or set {PEERS} or {PEERS_FILE}");
        values.reject(KUBERNETES_HOST, None, problem);
    }
    let port = values.optional(KUBERNETES_PORT, PORT_RANGE, port);
    if values.get(NAMESPACE).is_none() {
        let text = service_account_namespace(&service_account_dir).ok();
        namespace = text.as_deref().and_then(self::namespace);
        if namespace.is_none() && host.is_some() {
            let file = service_account_dir.join("namespace");
            let problem = format!("is not set, and {} cannot be read", file.display());
            values.reject(NAMESPACE, None, problem);
        }
    }
    Some(DiscoveryConfig::Kubernetes {
        host: host?,
        port: port.unwrap_or(443),
        service_account_dir,
        namespace: namespace?,
        label_selector,
    })
}

/// Parses the value of `WYLIS_LISTEN`.
pub(crate) fn listen_address(text: &str) -> Option<SocketAddr> {
    text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0)
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

fn pod_name(text: &str) -> Option<String> {
    NodeName::new(text).ok().map(|name| name.to_string())
}

fn namespace(text: &str) -> Option<String> {
    parse::is_dns_label(text).then(|| text.to_owned())
}

fn absolute(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text)).filter(|path| path.is_absolute())
}

fn random_instance() -> Option<Instance> {
    Instance::new(std::fs::read_to_string(RANDOM_UUID).ok()?.trim()).ok()
}
