//! The table of settings, and what makes each valid.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::parse;
use super::{Config, DiscoveryConfig, SettingError, duration_between};
use crate::discovery::{fixed, kubernetes};
use crate::name::{Instance, NodeName};

/// One setting, as the README and `--help` tell it.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable.
    pub variable: &'static str,
    /// What holds when it is not given, in words.
    pub default: &'static str,
    /// What it is.
    pub help: &'static str,
}

/// The port of the design: the one the first Wylis used.
pub const DEFAULT_PORT: u16 = 9050;
/// More bounds are more series for every pair of nodes.
const MAX_BUCKETS: usize = 16;
/// The steps of retransmitted SYNs (just over 1, 2 and 3 s) fall into buckets of their own.
const DEFAULT_BUCKETS: &str = "0.001,0.005,0.02,0.1,0.5,1,2,3";
/// Where Kubernetes mounts the service account.
const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The kernel's own source of random identifiers, random(4).
const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";

macro_rules! settings {
    ($($constant:ident $variable:literal $default:literal $help:literal;)*) => {
        $(const $constant: &str = $variable;)*
        /// All settings, in the order of the README.
        pub const SETTINGS: &[Setting] = &[
            $(Setting { variable: $variable, default: $default, help: $help },)*
        ];
    };
}

settings! {
    NODE_NAME "WYLIS_NODE_NAME" "required" "our own name in labels and headers (downward API: spec.nodeName)";
    POD_NAME "WYLIS_POD_NAME" "none" "our own pod, to find ourselves in the list (downward API: metadata.name)";
    POD_UID "WYLIS_POD_UID" "none" "our own pod's UID, which is our instance (downward API: metadata.uid); a random id without it";
    LISTEN "WYLIS_LISTEN" "[::]:9050" "the public port, both families; 0.0.0.0:9050 where there is no IPv6";
    PEER_PORT "WYLIS_PEER_PORT" "the port of WYLIS_LISTEN" "where peers listen";
    INTERVAL "WYLIS_INTERVAL" "10s" "spacing of the probes of one peer, 100ms to 1h";
    TIMEOUT "WYLIS_TIMEOUT" "5s" "the whole budget of one probe, 10ms to 1m";
    LARGE_INTERVAL "WYLIS_LARGE_INTERVAL" "5m" "spacing of the large probes of one peer, which find paths that swallow full-size packets; 0s for none, else 1s to 24h";
    REFRESH_INTERVAL "WYLIS_REFRESH_INTERVAL" "30s" "spacing of the refreshes of the pod list, the least, 1s to 1h";
    NAMESPACE "WYLIS_NAMESPACE" "the service account's" "the namespace of the agents' pods";
    LABEL_SELECTOR "WYLIS_LABEL_SELECTOR" "app.kubernetes.io/name=wylis" "the label selector of the agents' pods";
    PEERS "WYLIS_PEERS" "none" "a fixed list name=host:port,... (IPv6 in brackets) in place of Kubernetes";
    PEERS_FILE "WYLIS_PEERS_FILE" "none" "the absolute path of a file of such entries, one a line, read at every refresh";
    STATE_DIR "WYLIS_STATE_DIR" "none" "the absolute path of a directory where the last good list is kept for a restart";
    DRAIN "WYLIS_DRAIN" "5s" "how long to keep answering after SIGTERM, 0s to 5m";
    FAILURE_THRESHOLD "WYLIS_FAILURE_THRESHOLD" "3" "slots in a row without a success before a peer is down, 1 to 100";
    BUCKETS "WYLIS_BUCKETS" "0.001,0.005,0.02,0.1,0.5,1,2,3" "bounds of the latency histogram in seconds, at most 16";
    SERVICE_ACCOUNT "WYLIS_SERVICE_ACCOUNT_DIR" "/var/run/secrets/kubernetes.io/serviceaccount" "the directory of token, ca.crt and namespace";
    LOG "WYLIS_LOG" "info" "what is logged: a level (off, error, warn, info, debug), or module=level,... as env_logger takes it";
}

impl Setting {
    /// The flag of the same name: `WYLIS_NODE_NAME` is `--node-name`.
    #[must_use]
    pub fn flag(&self) -> String {
        flag(self.variable)
    }
}

fn flag(variable: &str) -> String {
    let name = variable.strip_prefix("WYLIS_").unwrap_or(variable);
    format!("--{}", name.to_ascii_lowercase().replace('_', "-"))
}

/// Kubernetes puts these into every container of a namespace that has a Service called wylis.
fn is_service_link(variable: &str) -> bool {
    variable.starts_with("WYLIS_SERVICE_HOST")
        || variable.starts_with("WYLIS_SERVICE_PORT")
        || variable == "WYLIS_PORT"
        || variable.starts_with("WYLIS_PORT_")
}

/// What was given, under its variable, with the name that the user wrote.
#[derive(Default)]
pub(super) struct Given {
    values: BTreeMap<&'static str, (String, String)>,
    cluster: (Option<String>, Option<String>),
    errors: Vec<SettingError>,
}

impl Given {
    pub(super) fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            match name.as_str() {
                "KUBERNETES_SERVICE_HOST" => self.cluster.0 = Some(value),
                "KUBERNETES_SERVICE_PORT" => self.cluster.1 = Some(value),
                _ => {
                    let known = SETTINGS.iter().find(|setting| setting.variable == name);
                    if let Some(setting) = known {
                        self.values.insert(setting.variable, (name, value));
                    } else if name.starts_with("WYLIS_") && !is_service_link(&name) {
                        self.wrong(&name, Some(value), "is no setting of Wylis".to_owned());
                    }
                }
            }
        }
    }

    pub(super) fn arguments(&mut self, arguments: Vec<String>) {
        let mut seen = BTreeSet::new();
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            // An unknown flag has a value too, or it would be told as a second error.
            let value = value.or_else(|| {
                arguments.next_if(|next| name.starts_with('-') && !next.starts_with("--"))
            });
            let Some(setting) = SETTINGS.iter().find(|setting| setting.flag() == name) else {
                self.wrong(&name, value, "is no flag of Wylis; see --help".to_owned());
                continue;
            };
            match value {
                None => self.wrong(&name, None, "needs a value".to_owned()),
                Some(value) if !seen.insert(setting.variable) => {
                    self.wrong(&name, Some(value), "is given more than once".to_owned());
                }
                Some(value) => {
                    self.values.insert(setting.variable, (name, value));
                }
            }
        }
    }

    fn wrong(&mut self, name: &str, value: Option<String>, expected: String) {
        self.errors.push(SettingError { name: name.to_owned(), value, expected });
    }

    fn text(&self, variable: &'static str) -> Option<&str> {
        self.values.get(variable).map(|(_, value)| value.as_str())
    }

    /// The value as `read` understands it, else `default`; a value that it does not understand is
    /// reported with what was expected.
    fn value<T>(
        &mut self,
        variable: &'static str,
        default: T,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let Some((name, text)) = self.values.get(variable).cloned() else { return default };
        read(text.trim()).unwrap_or_else(|| {
            self.wrong(&name, Some(text), format!("must be {expected}"));
            default
        })
    }

    fn optional<T>(
        &mut self,
        variable: &'static str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.value(variable, None, expected, |text| read(text).map(Some))
    }

    fn duration(
        &mut self,
        variable: &'static str,
        default: u64,
        least: u64,
        most: u64,
    ) -> Duration {
        let [default, least, most] = [default, least, most].map(Duration::from_millis);
        let Some((name, text)) = self.values.get(variable).cloned() else { return default };
        duration_between(&text, default, least..=most).unwrap_or_else(|expected| {
            self.wrong(&name, Some(text), expected);
            default
        })
    }

    pub(super) fn validate(mut self) -> Result<Config, Vec<SettingError>> {
        let node = self.node();
        let listen = self.optional(
            LISTEN,
            "an address and a port, such as 0.0.0.0:9050 or [::]:9050",
            |text| text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0),
        );
        let port = listen.map_or(DEFAULT_PORT, |address| address.port());
        let peer_port = self.value(PEER_PORT, port, "a port from 1 to 65535", |text| {
            text.parse().ok().filter(|port| *port != 0)
        });
        let instance = self
            .optional(POD_UID, "up to 63 letters, digits and '-'", |text| Instance::new(text).ok());
        let instance_is_pod_uid = instance.is_some();
        let instance = instance.or_else(random_instance);
        if instance.is_none() {
            self.wrong(POD_UID, None, format!("is not set, and {RANDOM_UUID} cannot be read"));
        }
        let config = Config {
            pod_name: self.optional(POD_NAME, "the name of a pod", |text| {
                NodeName::new(text).ok().map(|name| name.to_string())
            }),
            listen,
            peer_port,
            interval: self.duration(INTERVAL, 10_000, 100, 3_600_000),
            timeout: self.duration(TIMEOUT, 5_000, 10, 60_000),
            large_interval: self.large_interval(),
            refresh_interval: self.duration(REFRESH_INTERVAL, 30_000, 1_000, 3_600_000),
            state_dir: self.optional(STATE_DIR, "an absolute path", absolute),
            drain: self.duration(DRAIN, 5_000, 0, 300_000),
            failure_threshold: self.value(FAILURE_THRESHOLD, 3, "from 1 to 100", |text| {
                text.parse().ok().filter(|threshold| (1..=100).contains(threshold))
            }),
            buckets: self.buckets(),
            log: self.log(),
            discovery: self.discovery(),
            node,
            instance: instance.unwrap_or_else(placeholder_instance),
            instance_is_pod_uid,
        };
        if self.errors.is_empty() { Ok(config) } else { Err(self.errors) }
    }

    /// Zero turns them off, so that the bounds hold for the rest.
    fn large_interval(&mut self) -> Duration {
        let [default, least, most] = [300, 1, 86_400].map(Duration::from_secs);
        let expected = "0s for none, or a duration with its unit from 1s to 24h";
        self.value(LARGE_INTERVAL, default, expected, |text| {
            let asked = parse::duration(text)?;
            (asked.is_zero() || (least..=most).contains(&asked)).then_some(asked)
        })
    }

    fn node(&mut self) -> NodeName {
        let placeholder = NodeName::new("unset").expect("the placeholder is a valid name");
        if self.text(NODE_NAME).is_none() {
            let expected = "is required: set it from spec.nodeName, or with --node-name";
            self.wrong(NODE_NAME, None, expected.to_owned());
            return placeholder;
        }
        let expected = "1 to 253 letters, digits, '.' and '-'";
        self.value(NODE_NAME, placeholder, expected, |text| NodeName::new(text).ok())
    }

    fn buckets(&mut self) -> Vec<f64> {
        let default = parse::buckets(DEFAULT_BUCKETS).expect("the default bounds rise");
        let expected = format!("1 to {MAX_BUCKETS} rising numbers of seconds, separated by commas");
        self.value(BUCKETS, default, &expected, |text| {
            parse::buckets(text).filter(|bounds| bounds.len() <= MAX_BUCKETS)
        })
    }

    fn log(&mut self) -> String {
        let expected = format!(
            "levels (off, error, warn, info, debug), alone or of a module (wylis::gate=debug,warn); \
             modules begin with {}",
            parse::LOGGING.join(", ")
        );
        self.value(LOG, "info".to_owned(), &expected, |text| {
            parse::is_log_filter(text).then(|| text.to_owned())
        })
    }

    fn discovery(&mut self) -> DiscoveryConfig {
        let service_account_dir =
            self.value(SERVICE_ACCOUNT, SERVICE_ACCOUNT_DIR.into(), "an absolute path", absolute);
        let namespace = self.optional(NAMESPACE, "a namespace (lower case, digits, '-')", |text| {
            parse::is_label(text).then(|| text.to_owned())
        });
        let label_selector = self.value(
            LABEL_SELECTOR,
            "app.kubernetes.io/name=wylis".to_owned(),
            "a label selector of at most 512 plain characters, such as app=wylis",
            |text| {
                let plain = !text.is_empty() && text.len() <= 512;
                (plain && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)))
                    .then(|| text.to_owned())
            },
        );
        let file = self.optional(PEERS_FILE, "an absolute path", absolute);
        let peers = self.values.get(PEERS).cloned();
        let file_given = self.values.contains_key(PEERS_FILE);
        match peers {
            Some((name, list)) if file_given => {
                let expected = format!("cannot be used together with {PEERS_FILE}");
                self.wrong(&name, Some(list), expected);
                DiscoveryConfig::Fixed(Vec::new())
            }
            Some((name, list)) => {
                let entries = fixed::parse(&list).unwrap_or_else(|error| {
                    self.wrong(&name, Some(list), error.to_string());
                    Vec::new()
                });
                DiscoveryConfig::Fixed(entries)
            }
            // A wrong path is told already.
            None if file_given => DiscoveryConfig::File(file.unwrap_or_default()),
            None => self.cluster(service_account_dir, namespace, label_selector),
        }
    }

    fn cluster(
        &mut self,
        service_account_dir: PathBuf,
        namespace: Option<String>,
        label_selector: String,
    ) -> DiscoveryConfig {
        let (host, port) = self.cluster.clone();
        let host = host.filter(|host| !host.is_empty());
        if host.is_none() {
            let expected =
                format!("is not set: run in a Kubernetes cluster, or give {PEERS} or {PEERS_FILE}");
            self.wrong("KUBERNETES_SERVICE_HOST", None, expected);
        }
        let port = match port.as_deref().map(str::parse) {
            None => 443,
            Some(Ok(port)) if port != 0 => port,
            Some(_) => {
                let expected = "must be a port from 1 to 65535".to_owned();
                self.wrong("KUBERNETES_SERVICE_PORT", port, expected);
                443
            }
        };
        let namespace = namespace.or_else(|| {
            let text = kubernetes::service_account_namespace(&service_account_dir).ok()?;
            parse::is_label(&text).then_some(text)
        });
        if namespace.is_none() && host.is_some() {
            let file = service_account_dir.join("namespace");
            let expected = format!("is not set, and {} cannot be read", file.display());
            // A wrong namespace is told already.
            if self.text(NAMESPACE).is_none() {
                self.wrong(NAMESPACE, None, expected);
            }
        }
        DiscoveryConfig::Kubernetes {
            host: host.unwrap_or_default(),
            port,
            service_account_dir,
            namespace: namespace.unwrap_or_default(),
            label_selector,
        }
    }
}

fn absolute(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text)).filter(|path| path.is_absolute())
}

fn random_instance() -> Option<Instance> {
    Instance::new(std::fs::read_to_string(RANDOM_UUID).ok()?.trim()).ok()
}

// Stands in for a value that was reported as wrong, and is never used.
fn placeholder_instance() -> Instance {
    Instance::new("unset").expect("the placeholder is a valid instance")
}
