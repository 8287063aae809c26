//! The arguments of the commands: one table, from which they are read, checked and told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::Environment;
use crate::config::{DEFAULT_PORT, SettingError, duration_between};

/// What can be asked for beside the agent itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// This node's row.
    Peers,
    /// All rows.
    Cluster,
    /// Single probes of any agent.
    Probe,
}

/// One flag of a command.
#[derive(Debug)]
struct Flag {
    name: &'static str,
    /// What its value is called; `None` for a flag without one.
    value: Option<&'static str>,
    help: &'static str,
    default: &'static str,
}

const AGENT: Flag = Flag {
    name: "--agent",
    value: Some("HOST:PORT"),
    help: "the agent that is asked",
    default: "this host's, at the port of WYLIS_LISTEN",
};
const JSON: Flag =
    Flag { name: "--json", value: None, help: "print the agent's document as it is", default: "" };
const COUNT: Flag = Flag {
    name: "--count",
    value: Some("N"),
    help: "how many probes, 0 to 1000000; 0 until Ctrl-C",
    default: "5",
};
const INTERVAL: Flag = Flag {
    name: "--interval",
    value: Some("TIME"),
    help: "from one probe to the next, 100ms to 1h",
    default: "1s",
};
const TIMEOUT: Flag = Flag {
    name: "--timeout",
    value: Some("TIME"),
    help: "the whole budget of one probe, 10ms to 1m",
    default: "5s",
};

/// Each command's usage and what it does, as the README and `--help` tell it.
pub const COMMANDS: [(&str, &str); 3] = [
    ("wylis peers [--agent HOST:PORT] [--json]", "how this node sees every other"),
    ("wylis cluster [--agent HOST:PORT] [--json]", "how every node sees every other"),
    (
        "wylis probe HOST:PORT [--count N] [--interval TIME] [--timeout TIME]",
        "probes one agent now; counted for no path",
    ),
];

impl Command {
    /// All of them, in the order of [`COMMANDS`].
    pub const ALL: [Self; 3] = [Self::Peers, Self::Cluster, Self::Probe];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Cluster => "cluster",
            Self::Probe => "probe",
        }
    }

    const fn flags(self) -> &'static [Flag] {
        match self {
            Self::Peers | Self::Cluster => &[AGENT, JSON],
            Self::Probe => &[COUNT, INTERVAL, TIMEOUT],
        }
    }

    /// The text of its `--help`.
    #[must_use]
    pub fn help(self) -> String {
        let told = Self::ALL.iter().position(|known| *known == self);
        let (usage, what) = told.and_then(|index| COMMANDS.get(index)).copied().unwrap_or_default();
        let mut text = format!("Usage: {usage}\n\nShows {what}.\n\n");
        if self == Self::Probe {
            text = format!("Usage: {usage}\n\n{}.\n\n", capital(what));
        }
        for flag in self.flags() {
            let name = [flag.name, flag.value.unwrap_or_default()].join(" ");
            let default = match flag.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            put!(text, "  {name:<18} {}{default}\n", flag.help);
        }
        text.push_str(
            "  -h, --help         print this\n\nExit codes: 0 all is well, 1 it could not be \
             found out, 2 wrong usage, 4 something is down or cannot be seen.\n",
        );
        text
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Who is asked or probed; a host name is not resolved yet.
    pub(super) target: String,
    pub(super) json: bool,
    pub(super) count: u32,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

/// What reads the arguments.
struct Parser<'a> {
    /// Names and values.
    values: Vec<(&'static str, &'a str)>,
    others: Vec<&'a str>,
    errors: Vec<SettingError>,
}

impl Given {
    /// Reads the arguments behind the command's name.
    pub(super) fn read(
        command: Command,
        arguments: &[String],
        environment: &Environment,
    ) -> Result<Self, Vec<SettingError>> {
        let mut parser = Parser { values: Vec::new(), others: Vec::new(), errors: Vec::new() };
        parser.split(command, arguments);
        let target = match command {
            Command::Probe => parser.probed(),
            Command::Peers | Command::Cluster => parser.asked(command, environment),
        };
        let given = Self {
            target,
            json: parser.get(JSON.name).is_some(),
            count: parser.count(),
            interval: parser.duration(INTERVAL.name, 1000, (100, 3_600_000)),
            timeout: parser.duration(TIMEOUT.name, 5000, (10, 60_000)),
        };
        if parser.errors.is_empty() { Ok(given) } else { Err(parser.errors) }
    }
}

impl<'a> Parser<'a> {
    fn split(&mut self, command: Command, arguments: &'a [String]) {
        let mut arguments = arguments.iter().map(String::as_str).peekable();
        while let Some(argument) = arguments.next() {
            if !argument.starts_with('-') {
                self.others.push(argument);
                continue;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            let Some(flag) = command.flags().iter().find(|flag| flag.name == name) else {
                let expected = format!("is no flag of wylis {}; see --help", command.name());
                self.wrong(name, value, expected);
                continue;
            };
            let value = match flag.value {
                Some(_) => value.or_else(|| arguments.next_if(|next| !next.starts_with('-'))),
                None if value.is_some() => {
                    self.wrong(name, value, "takes no value".to_owned());
                    continue;
                }
                None => Some(""),
            };
            match value {
                None => self.wrong(name, None, "needs a value".to_owned()),
                Some(value) if self.get(flag.name).is_some() => {
                    self.wrong(name, Some(value), "is given more than once".to_owned());
                }
                Some(value) => self.values.push((flag.name, value)),
            }
        }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn wrong(&mut self, name: &str, value: Option<&str>, expected: String) {
        let (name, value) = (name.to_owned(), value.map(ToOwned::to_owned));
        self.errors.push(SettingError { name, value, expected });
    }

    fn host_and_port(&mut self, name: &str, text: &str) -> String {
        if !is_host_and_port(text) {
            let expected = "must be HOST:PORT, with an IPv6 address in brackets";
            self.wrong(name, Some(text), expected.to_owned());
        }
        text.to_owned()
    }

    fn probed(&mut self) -> String {
        let mut others = std::mem::take(&mut self.others).into_iter();
        let target = match others.next() {
            None => {
                self.wrong("HOST:PORT", None, "is required: whom to probe".to_owned());
                String::new()
            }
            Some(target) => self.host_and_port("HOST:PORT", target),
        };
        for other in others {
            self.wrong(other, None, "is one too many: one target is probed".to_owned());
        }
        target
    }

    fn asked(&mut self, command: Command, environment: &Environment) -> String {
        for other in std::mem::take(&mut self.others) {
            let expected = format!("is no argument of wylis {}; see --help", command.name());
            self.wrong(other, None, expected);
        }
        match (self.get(AGENT.name), &environment.listen) {
            (Some(agent), _) => self.host_and_port(AGENT.name, agent),
            (None, None) => local(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_PORT),
            (None, Some(listen)) => match listen.trim().parse::<SocketAddr>() {
                Ok(listen) => local(listen.ip(), listen.port()),
                Err(_) => {
                    let expected = "must be an address and a port; or give --agent";
                    self.wrong("WYLIS_LISTEN", Some(listen), expected.to_owned());
                    String::new()
                }
            },
        }
    }

    fn count(&mut self) -> u32 {
        let Some(text) = self.get(COUNT.name) else { return 5 };
        let count = text.parse().ok().filter(|count| *count <= 1_000_000);
        count.unwrap_or_else(|| {
            let expected = "must be a number of probes from 0 to 1000000; 0 until Ctrl-C";
            self.wrong(COUNT.name, Some(text), expected.to_owned());
            0
        })
    }

    /// In milliseconds: what holds without it, the least and the most.
    fn duration(
        &mut self,
        name: &'static str,
        default: u64,
        (least, most): (u64, u64),
    ) -> Duration {
        let [default, least, most] = [default, least, most].map(Duration::from_millis);
        let Some(text) = self.get(name) else { return default };
        duration_between(text, default, least..=most).unwrap_or_else(|expected| {
            self.wrong(name, Some(text), expected);
            default
        })
    }
}

/// How an agent that listens there is reached from its own host.
fn local(listen: IpAddr, port: u16) -> String {
    let ip = match listen {
        // Both families are served.
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip == Ipv6Addr::UNSPECIFIED => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, port).to_string()
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let port = port.parse::<u16>().is_ok_and(|port| port != 0);
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            (1..=253).contains(&host.len()) && host.bytes().all(plain)
        }
    };
    host && port
}
