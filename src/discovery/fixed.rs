//! A fixed list of peers, for meshes without Kubernetes: `name=host:port`, from a setting or a file.
//!
//! Nothing is remembered of the file: it is read at each refresh, and host names are resolved anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use log::info;

use super::error::DiscoveryError;
use super::{LogOnChange, PeerSource};
use crate::name::{NameError, NodeName};
use crate::peer::MAX_PEERS;
use crate::peer::{Peer, PeerSet};

/// The longest list: [`MAX_PEERS`] lines of 200 octets.
const MAX_FILE: u64 = 1 << 20;
/// Longest host name (RFC 1035 2.3.4).
const MAX_HOST: usize = 253;
/// How much of a wrong entry an error shows.
const MAX_SHOWN: usize = 80;
/// All host names of a list are resolved within this, or what was known of the rest stays: one
/// look-up blocks for some seconds when the name server is away.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The node.
    pub node: NodeName,
    /// An address or a host name; IPv6 without brackets.
    pub host: String,
    /// Where its agent listens.
    pub port: u16,
}

/// What is wrong with a list.
#[derive(Debug)]
pub enum FixedListError {
    /// The file cannot be read.
    Read(PathBuf, std::io::Error),
    /// More text than a list can have.
    TooLong,
    /// More entries than a mesh can have.
    TooMany,
    /// No entry at all.
    NoEntry,
    /// What stands in one line is no entry.
    Line(usize, String, LineError),
}

/// What is wrong with one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineError {
    /// It has no `=`.
    NoName,
    /// What stands before the `=` is no node name.
    Name(NameError),
    /// What stands behind it is not `host:port`.
    Host(String),
    /// The port is not one of 1 to 65535.
    Port(String),
    /// The name stands in an earlier line.
    Twice(NodeName),
}

impl fmt::Display for FixedListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "read {}: {error}", path.display()),
            Self::TooLong => write!(f, "is longer than {MAX_FILE} bytes"),
            Self::TooMany => write!(f, "has more than {MAX_PEERS} entries"),
            Self::NoEntry => f.write_str("has no entry"),
            Self::Line(number, text, error) => write!(f, "line {number}, {text:?}: {error}"),
        }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => f.write_str("is not of the form name=host:port"),
            Self::Name(error) => write!(f, "the name {error}"),
            Self::Host(text) => {
                write!(f, "{text:?} is not host:port (IPv6 addresses stand in brackets)")
            }
            Self::Port(text) => write!(f, "{text:?} is not a port from 1 to 65535"),
            Self::Twice(node) => write!(f, "the name {node} stands there twice"),
        }
    }
}

impl std::error::Error for LineError {}

impl std::error::Error for FixedListError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(_, error) => Some(error),
            Self::Line(_, _, error) => Some(error),
            _ => None,
        }
    }
}

/// Reads a list: entries apart by commas or line ends, `#` starts a comment.
///
/// # Errors
/// At the first entry that is none, with its line; when there are too many, or none.
pub fn parse(text: &str) -> Result<Vec<Entry>, FixedListError> {
    if text.len() as u64 > MAX_FILE {
        return Err(FixedListError::TooLong);
    }
    let mut entries = Vec::new();
    let mut names = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        for part in line.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let shown = || part.chars().take(MAX_SHOWN).collect();
            let wrong = |error| FixedListError::Line(number + 1, shown(), error);
            let entry = entry(part).map_err(wrong)?;
            if !names.insert(entry.node.clone()) {
                return Err(wrong(LineError::Twice(entry.node)));
            }
            if entries.len() == MAX_PEERS {
                return Err(FixedListError::TooMany);
            }
            entries.push(entry);
        }
    }
    if entries.is_empty() { Err(FixedListError::NoEntry) } else { Ok(entries) }
}

fn entry(text: &str) -> Result<Entry, LineError> {
    let (name, target) = text.split_once('=').ok_or(LineError::NoName)?;
    let node = NodeName::new(name.trim()).map_err(LineError::Name)?;
    let target = target.trim();
    let wrong = || LineError::Host(target.to_owned());
    let (host, port) = target.rsplit_once(':').ok_or_else(wrong)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let ip = rest.strip_suffix(']').ok_or_else(wrong)?;
            ip.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?.to_string()
        }
        None => host.to_owned(),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let plain = host.parse::<IpAddr>().is_ok() || host.bytes().all(is_host);
    let bare_ipv6 = host.contains(':') && !target.starts_with('[');
    if host.is_empty() || host.len() > MAX_HOST || !plain || bare_ipv6 {
        return Err(wrong());
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|number| digits && *number != 0);
    let port = number.ok_or_else(|| LineError::Port(port.to_owned()))?;
    Ok(Entry { node, host, port })
}

/// Where the list comes from.
#[derive(Debug)]
pub enum FixedList {
    /// From a setting, already parsed.
    Entries(Vec<Entry>),
    /// A file, read at each refresh.
    File(PathBuf),
}

/// Turns the list into peers at each refresh.
#[derive(Debug)]
pub struct FixedSource {
    list: FixedList,
    own: NodeName,
    /// The last addresses of host names: a name server that is away costs no peer.
    known: BTreeMap<String, Vec<IpAddr>>,
    unresolved: LogOnChange,
    /// No entry bears our own name.
    unnamed: bool,
}

impl FixedSource {
    /// A source of this list; the entry of our own node is ourselves.
    #[must_use]
    pub fn new(list: FixedList, own: NodeName) -> Self {
        let unresolved = LogOnChange::new("host names of the fixed list without an address");
        Self { list, own, known: BTreeMap::new(), unresolved, unnamed: false }
    }

    fn entries(&self) -> Result<Vec<Entry>, FixedListError> {
        let path = match &self.list {
            FixedList::Entries(entries) => return Ok(entries.clone()),
            FixedList::File(path) => path,
        };
        let mut text = String::new();
        let file = std::fs::File::open(path);
        // One byte more than allowed tells that there is more.
        let read = file.and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
        read.map_err(|error| FixedListError::Read(path.clone(), error))?;
        parse(&text)
    }

    /// The addresses of a host, the last known ones where there is no answer (now, or no time left).
    fn resolve(&mut self, entry: &Entry, deadline: Instant) -> Vec<IpAddr> {
        if let Ok(ip) = entry.host.parse() {
            return vec![ip];
        }
        if Instant::now() < deadline
            && let Ok(found) = (entry.host.as_str(), entry.port).to_socket_addrs()
        {
            let mut ips: Vec<IpAddr> = Vec::new();
            for address in found {
                if !ips.contains(&address.ip()) {
                    ips.push(address.ip());
                }
            }
            self.remember(&entry.host, ips);
        }
        self.known.get(&entry.host).cloned().unwrap_or_default()
    }

    /// The addresses of a host, as long as there are no others. The one in use stays first: a name
    /// with several may give them in turn, and a peer does not move by that.
    fn remember(&mut self, host: &str, mut ips: Vec<IpAddr>) {
        let used = self.known.get(host).and_then(|before| before.first());
        if let Some(place) = ips.iter().position(|ip| Some(ip) == used) {
            ips.swap(0, place);
        }
        self.known.insert(host.to_owned(), ips);
    }
}

impl PeerSource for FixedSource {
    /// A file or a setting of our own.
    fn is_shared(&self) -> bool {
        false
    }

    fn list(&mut self, _: SystemTime) -> Result<Option<PeerSet>, DiscoveryError> {
        let mut entries = self.entries()?;
        let all = entries.len();
        entries.retain(|entry| entry.node != self.own);
        let unnamed = entries.len() == all;
        if unnamed && !self.unnamed {
            info!(
                "discovery: the fixed list has no {:?}: an entry that means this node must have that \
                 very name",
                self.own.as_str()
            );
        }
        self.unnamed = unnamed;
        let hosts: BTreeSet<&str> = entries.iter().map(|entry| entry.host.as_str()).collect();
        self.known.retain(|host, _| hosts.contains(host.as_str()));
        let deadline = Instant::now() + RESOLVE_LIMIT;
        let mut set = PeerSet::default();
        let mut missing = Vec::new();
        for entry in &entries {
            let ips = self.resolve(entry, deadline);
            let Some((first, others)) = ips.split_first() else {
                missing.push(entry.host.as_str());
                continue;
            };
            set.insert(Peer {
                node: entry.node.clone(),
                address: SocketAddr::new(*first, entry.port),
                other_addresses: others.to_vec(),
                instance: None,
                ready: None,
            });
        }
        self.unresolved
            .tell(missing.len(), || format!("{:?}", missing.iter().take(3).collect::<Vec<_>>()));
        if set.is_empty() && !missing.is_empty() {
            return Err(DiscoveryError::Unresolved { names: missing.len() });
        }
        set.pods.peer = set.len() as u64;
        Ok(Some(set))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(text: &str) -> Vec<(String, String, u16)> {
        let parsed = parse(text).unwrap();
        parsed.into_iter().map(|e| (e.node.to_string(), e.host, e.port)).collect()
    }

    #[test]
    fn entries_stand_apart_by_commas_and_lines() {
        let text =
            "# the mesh\na=10.0.0.1:9050, b = host-b.lan:80 # by name\r\n\nc=[fd00::1]:9050,";
        let row = |name: &str, host: &str, port| (name.to_owned(), host.to_owned(), port);
        let expected =
            [row("a", "10.0.0.1", 9050), row("b", "host-b.lan", 80), row("c", "fd00::1", 9050)];
        assert_eq!(entries(text), expected);
    }

    #[test]
    fn a_bad_entry_is_named_by_its_line() {
        for (text, expected) in [
            ("a=h:1\nb", "line 2, \"b\": is not of the form name=host:port"),
            ("a b=h:1", "line 1, \"a b=h:1\": the name holds a character"),
            ("=h:1", "line 1, \"=h:1\": the name is empty"),
            ("a=h", "\"h\" is not host:port"),
            ("a=:1", "\":1\" is not host:port"),
            ("a=fd00::1:9050", "IPv6 addresses stand in brackets"),
            ("a=[fd00::1:9050", "IPv6 addresses stand in brackets"),
            ("a=[10.0.0.1]:9050", "IPv6 addresses stand in brackets"),
            ("a=h/x:1", "is not host:port"),
            ("a=h:0", "\"0\" is not a port"),
            ("a=h:65536", "\"65536\" is not a port"),
            ("a=h:+1", "\"+1\" is not a port"),
            ("a=h:", "\"\" is not a port"),
            ("a=h:1\n\na=h:2", "line 3, \"a=h:2\": the name a stands there twice"),
            ("# nothing\n", "has no entry"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let many: String = (0..=MAX_PEERS).map(|n| format!("n{n}=10.0.0.1:1\n")).collect();
        assert!(matches!(parse(&many), Err(FixedListError::TooMany)));
    }

    fn listed(source: &mut FixedSource) -> PeerSet {
        source.list(SystemTime::now()).unwrap().unwrap()
    }

    #[test]
    fn our_own_entry_is_ourselves_and_names_are_resolved() {
        let list = parse("me=10.0.0.1:9050,a=127.0.0.9:9051,b=localhost:9052").unwrap();
        let own = NodeName::new("me").unwrap();
        let set = listed(&mut FixedSource::new(FixedList::Entries(list), own));
        let found: Vec<_> = set.iter().map(|peer| peer.node.as_str()).collect();
        assert_eq!((found, set.pods.peer), (vec!["a", "b"], 2));
        assert!(set.iter().all(|peer| peer.address.ip().is_loopback()));
        assert!(set.iter().all(|peer| peer.instance.is_none() && peer.ready.is_none()));
    }

    #[test]
    fn a_name_without_an_address_costs_only_its_peer() {
        let own = NodeName::new("me").unwrap();
        let list = parse("a=no-such-host.invalid:1,b=127.0.0.1:2").unwrap();
        let mut source = FixedSource::new(FixedList::Entries(list), own.clone());
        assert_eq!(listed(&mut source).len(), 1);
        let list = parse("a=no-such-host.invalid:1").unwrap();
        let mut source = FixedSource::new(FixedList::Entries(list), own);
        let error = source.list(SystemTime::now()).unwrap_err();
        assert_eq!(error.reason().as_str(), "fixed_list");
        source.known.insert("no-such-host.invalid".to_owned(), vec!["127.0.0.1".parse().unwrap()]);
        assert_eq!(listed(&mut source).len(), 1, "the last address is kept");
    }

    #[test]
    fn a_name_that_gives_its_addresses_in_turn_moves_no_peer() {
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let list = FixedList::Entries(Vec::new());
        let mut source = FixedSource::new(list, NodeName::new("me").unwrap());
        let mut first_of = |ips: &[IpAddr]| {
            source.remember("host", ips.to_vec());
            source.known["host"][0]
        };
        assert_eq!(first_of(&[ip(1), ip(2), ip(3)]), ip(1));
        assert_eq!(first_of(&[ip(2), ip(3), ip(1)]), ip(1));
        assert_eq!(first_of(&[ip(2), ip(3)]), ip(2), "an address that is gone is given up");
    }

    proptest! {
        #[test]
        fn whatever_parses_is_usable(text in "[a-c=:\\[\\]0-9.,#\n -]{0,60}") {
            for entry in parse(&text).unwrap_or_default() {
                prop_assert!(entry.port != 0 && !entry.host.is_empty());
            }
        }
    }
}
