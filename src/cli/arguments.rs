//! The command line: what it asks for, and the options of each command with their help.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::survey::request::{self, Request};
use super::{Environment, variable};
use crate::config::{DEFAULT_PORT, SettingError, Values, listen_address};
use crate::host_port::HostPort;
use crate::label::label_set;
use crate::name::NodeName;

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Run the agent.
    Agent,
    /// Run a command, named by the first argument.
    Command(Command),
    /// Print the agent's help.
    Help,
    /// Print the version.
    Version,
}

impl Invocation {
    /// Classifies a command line without the program's name.
    ///
    /// # Errors
    /// When the first argument is neither a flag nor a command. A mistyped command does not ask for
    /// the agent, so the agent's settings are not validated.
    pub fn parse(arguments: &[String]) -> Result<Self, SettingError> {
        let first = arguments.first().map_or("", String::as_str);
        if let Some(command) = Command::ALL.into_iter().find(|command| command.as_str() == first) {
            Ok(Self::Command(command))
        } else if has(arguments, ["--help", "-h"]) {
            Ok(Self::Help)
        } else if has(arguments, ["--version", "-V"]) {
            Ok(Self::Version)
        } else if arguments.is_empty() || first.starts_with('-') {
            Ok(Self::Agent)
        } else {
            let commands = Command::ALL.map(Command::as_str).join(", ");
            let problem = format!("unknown command; the commands are {commands}; see wylis --help");
            Err(SettingError { name: first.to_owned(), value: None, problem })
        }
    }
}

/// Whether a flag without a value is among the arguments.
pub(super) fn has(arguments: &[String], names: [&str; 2]) -> bool {
    arguments.iter().any(|argument| names.contains(&argument.as_str()))
}

label_set! {
    /// A command beside the agent itself.
    pub enum Command {
        /// Shows this node's peers.
        Peers = "peers",
        /// Shows the matrix.
        Cluster = "cluster",
        /// Shows the last day.
        History = "history",
        /// Probes any agent.
        Probe = "probe",
        /// Begins, shows or ends a survey.
        Survey = "survey",
    }
}

/// One flag of a command.
struct Flag {
    name: &'static str,
    /// The name of its value; empty for a flag without one.
    value: &'static str,
    help: &'static str,
    default: &'static str,
}

const AGENT: Flag = Flag {
    name: "--agent",
    value: "HOST:PORT",
    help: "the agent to ask",
    default: "on this host, at the port of WYLIS_LISTEN",
};
const JSON: Flag =
    Flag { name: "--json", value: "", help: "print the agent's JSON document", default: "" };
const PROBE_JSON: Flag =
    Flag { name: "--json", value: "", help: "print one JSON document at the end", default: "" };
const DAY_JSON: Flag = Flag {
    name: "--json",
    value: "",
    help: "print the agent's JSON document, always of the whole day",
    default: "",
};
const SINCE: Flag =
    Flag { name: "--since", value: "TIME", help: "how far back, 5m to 24h", default: "24h" };
const NODE: Flag =
    Flag { name: "--node", value: "NAME", help: "only what concerns this node", default: "" };
const MTU: Flag = Flag {
    name: "--mtu",
    value: "",
    help: "find the largest packet each way instead: 20 to 30 connections each",
    default: "",
};
const FLOWS: Flag = Flag {
    name: "--flows",
    value: "N",
    help: "try so many source ports instead, 1 to 1000, and those that fail again",
    default: "",
};
const COUNT: Flag = Flag {
    name: "--count",
    value: "N",
    help: "number of probes, 0 to 1000000; 0: until Ctrl-C",
    default: "5",
};
const INTERVAL: Flag = Flag {
    name: "--interval",
    value: "TIME",
    help: "time from one probe to the next, 100ms to 1h",
    default: "1s",
};
const TIMEOUT: Flag = Flag {
    name: "--timeout",
    value: "TIME",
    help: "time limit of a whole probe, 10ms to 1m",
    default: "5s",
};
const TO: Flag = Flag {
    name: request::TO,
    value: "NODE,…",
    help: "survey the agent's node with each of these nodes",
    default: "",
};
const ALL: Flag =
    Flag { name: request::ALL, value: "", help: "survey all pairs of nodes", default: "" };
const GAPS: Flag = Flag {
    name: request::GAPS,
    value: "TIMES",
    help: "idle times to try, 1 to 16 ascending ones from 1s to 10m",
    default: "10s,30s,60s,120s,300s",
};
const BUDGET: Flag = Flag {
    name: request::BUDGET,
    value: "TIME",
    help: "the longest time of the survey, 1s to 24h",
    default: "2h",
};
const YES: Flag = Flag {
    name: request::YES,
    value: "",
    help: "begin without asking; needed without a terminal",
    default: "",
};
const STOP: Flag = Flag { name: request::STOP, value: "", help: "end the survey", default: "" };
const SURVEY: [Flag; 8] = [TO, ALL, GAPS, BUDGET, YES, STOP, AGENT, JSON];
const LISTEN: &str = "WYLIS_LISTEN";
/// The positional argument of `probe`.
const TARGET: &str = "HOST:PORT";
const HOST_PORT: &str = "HOST:PORT, with a port from 1 to 65535 and an IPv6 address in brackets";

/// Usage and purpose of each command.
pub const COMMANDS: [(&str, &str); 5] = [
    Command::Peers.summary(),
    Command::Cluster.summary(),
    Command::History.summary(),
    Command::Probe.summary(),
    Command::Survey.summary(),
];

impl Command {
    const fn summary(self) -> (&'static str, &'static str) {
        match self {
            Self::Peers => (
                "wylis peers [--agent HOST:PORT] [--json]",
                "Shows how this node sees every other node",
            ),
            Self::Cluster => (
                "wylis cluster [--agent HOST:PORT] [--json]",
                "Shows how every node sees every other node",
            ),
            Self::History => (
                "wylis history [--since TIME] [--node NAME] [--agent HOST:PORT] [--json]",
                "Shows what was wrong in the last day, newest last, in UTC",
            ),
            Self::Probe => (
                "wylis probe HOST:PORT [--mtu] [--flows N] [--json] [--count N] [--interval TIME] [--timeout TIME]",
                "Probes any agent now; changes no counter of a pair",
            ),
            Self::Survey => (
                "wylis survey [--to NODE,…] [--all] [--gaps TIMES] [--budget TIME] [--yes] [--stop] [--agent HOST:PORT] [--json]",
                "Finds out after which idle time paths go cold; without --to, --all or --stop, shows the survey",
            ),
        }
    }

    const fn flags(self) -> &'static [Flag] {
        match self {
            Self::Peers | Self::Cluster => &[AGENT, JSON],
            Self::History => &[SINCE, NODE, AGENT, DAY_JSON],
            Self::Probe => &[MTU, FLOWS, PROBE_JSON, COUNT, INTERVAL, TIMEOUT],
            Self::Survey => &SURVEY,
        }
    }

    /// What its exit code 0 means, and 4 where it has one.
    const fn exit_codes(self) -> [&'static str; 2] {
        let found = match self {
            Self::Peers => ", 4 a peer is down or flaky",
            Self::Cluster => ", 4 there is a finding",
            Self::History => return ["the day is shown, whatever was wrong", ""],
            Self::Probe => {
                ", 4 a probe failed, a direction has a limit or is unproven, or a flow failed"
            }
            Self::Survey => ", 4 a path goes cold",
        };
        ["nothing is wrong", found]
    }

    /// The text of its `--help`.
    #[must_use]
    pub fn help(self) -> String {
        let (usage, purpose) = self.summary();
        let mut text = format!("Usage: {usage}\n\n{purpose}.\n\n");
        for Flag { name, value, help, default } in self.flags() {
            put!(text, "  {:<18} {help}", format!("{name} {value}"));
            if !default.is_empty() {
                put!(text, " [default: {default}]");
            }
            text.push('\n');
        }
        let [healthy, unhealthy] = self.exit_codes();
        put!(
            text,
            "  -h, --help         print this\n\nExit codes: 0 {healthy}, 1 error, 2 wrong usage{unhealthy}.\n"
        );
        text
    }
}

/// The options of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// The agent to ask or to probe.
    pub(super) target: HostPort,
    pub(super) json: bool,
    /// Find the largest packet in place of single probes.
    pub(super) mtu: bool,
    /// Try so many source ports in place of single probes.
    pub(super) flows: Option<u16>,
    pub(super) count: u32,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    /// How far back the day is shown.
    pub(super) since: Duration,
    /// Show only what concerns this node.
    pub(super) node: Option<NodeName>,
    pub(super) survey: Request,
}

impl Options {
    /// Reads the arguments after the command's name.
    pub(super) fn read(
        command: Command,
        arguments: &[String],
        environment: &Environment,
    ) -> Result<Self, Vec<SettingError>> {
        let defaults =
            [COUNT, INTERVAL, TIMEOUT, SINCE, GAPS, BUDGET].map(|flag| (flag.name, flag.default));
        let mut values = Values::new(defaults);
        let positional = (command == Command::Probe).then_some(TARGET);
        values.add_arguments(arguments, &format!("wylis {command}"), positional, |name| {
            let flag = command.flags().iter().find(|flag| flag.name == name)?;
            Some((flag.name, !flag.value.is_empty()))
        });
        let target = match command {
            Command::Probe => {
                let missing = "is required: the agent to probe";
                values.required(TARGET, missing, HOST_PORT, |text| text.parse().ok())
            }
            Command::Peers | Command::Cluster | Command::History | Command::Survey => {
                agent(&mut values, environment)
            }
        };
        let expected = "a number from 0 to 1000000";
        let count = values.or_default(COUNT.name, expected, |text| {
            text.parse().ok().filter(|count| *count <= 1_000_000)
        });
        let json = values.get(JSON.name).is_some();
        let mtu = values.get(MTU.name).is_some();
        let flows = values.optional(FLOWS.name, "a number from 1 to 1000", |text| {
            text.parse().ok().filter(|flows| (1..=1000).contains(flows))
        });
        for name in [COUNT.name, INTERVAL.name] {
            if (mtu || flows.is_some()) && values.get(name).is_some() {
                values.reject(name, None, "excludes --mtu and --flows");
            }
        }
        let interval = values.duration(INTERVAL.name, 100, 3_600_000);
        let timeout = values.duration(TIMEOUT.name, 10, 60_000);
        let since = values.duration(SINCE.name, 300_000, 24 * 3_600_000);
        let node =
            values.optional(NODE.name, "the name of a node", |text| NodeName::new(text).ok());
        let survey = Request::read(&mut values);
        values.finish(target.map(|target| Self {
            target,
            json,
            mtu,
            flows,
            count,
            interval,
            timeout,
            since,
            node,
            survey,
        }))
    }
}

/// The agent to ask: that of `--agent`, or the local one.
fn agent(values: &mut Values, environment: &Environment) -> Option<HostPort> {
    if values.get(AGENT.name).is_some() {
        return values.optional(AGENT.name, HOST_PORT, |text| text.parse().ok());
    }
    let unset = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
    let listen = match variable(environment, LISTEN) {
        None => unset,
        Some(listen) => {
            values.insert(LISTEN, LISTEN, listen);
            let expected = "an address and a port; or use --agent";
            values.optional(LISTEN, expected, listen_address)?
        }
    };
    // An agent that listens on all addresses serves both families.
    let ip = Some(listen.ip()).filter(|ip| !ip.is_unspecified());
    let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Some(HostPort::new(ip.to_string(), listen.port()))
}
