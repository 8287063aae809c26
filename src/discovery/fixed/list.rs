//! The grammar of a fixed peer list: `NAME=HOST:PORT` entries, from a setting or a file. `/ADDRESS` at the end
//! names the host behind the peer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::discovery::address::{AddressClass, AddressRule};
use crate::host_port::{HostPort, HostPortError};
use crate::name::{NameError, NodeName};
use crate::peer::MAX_PEERS;

/// Longest list: [`MAX_PEERS`] lines of 400 bytes.
pub(super) const MAX_BYTES: u64 = 1 << 20;
/// Characters of a wrong entry that its error shows.
const MAX_SHOWN: usize = 80;

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The node.
    pub node: NodeName,
    /// Where its agent listens.
    pub target: HostPort,
    /// The host behind it: the address of a tunnel's other end, for example.
    pub host: Option<IpAddr>,
}

/// Why a fixed list is unusable.
#[derive(Debug, Error)]
pub enum FixedListError {
    /// The file cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The list exceeds its size limit.
    #[error("is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// The list has more entries than a mesh may have peers.
    #[error("has more than {MAX_PEERS} entries")]
    TooMany,
    /// The list has no entry.
    #[error("has no entry")]
    NoEntry,
    /// An entry is malformed.
    #[error("line {line}, {text:?}: {source}")]
    Line {
        /// The number of its line, from 1.
        line: usize,
        /// The beginning of the entry.
        text: String,
        /// What is wrong with it.
        source: LineError,
    },
    /// None of the host names has an address.
    #[error("none of its {0} host names has an address that can be probed")]
    Unresolved(usize),
}

/// Why an entry is malformed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineError {
    /// It has no `=`.
    #[error("is not NAME=HOST:PORT")]
    NoName,
    /// The part before the `=` is not a node name.
    #[error("the name {0}")]
    Name(#[source] NameError),
    /// The part after the `=` is not `HOST:PORT`.
    #[error("the address {0}")]
    Target(#[source] HostPortError),
    /// The address belongs to no single host.
    #[error("the address is {0}, which no peer can have")]
    Address(AddressClass),
    /// The part after the `/` is not the address of a host.
    #[error("the host after '/' is not the IP address of one host")]
    Host,
    /// An earlier entry has the same name.
    #[error("the name {0} is already used")]
    Duplicate(NodeName),
}

/// Parses a list. Commas and line ends separate entries, `#` starts a comment.
///
/// # Errors
/// When the list is too long, has too many entries or none, or at its first malformed entry.
pub fn parse(text: &str) -> Result<Vec<Entry>, FixedListError> {
    if text.len() as u64 > MAX_BYTES {
        return Err(FixedListError::TooLong);
    }
    let mut entries = Vec::new();
    let mut names = BTreeSet::new();
    // Editors on Windows start a file with a byte-order mark.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        for text in line.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let malformed = |source| {
                let text = text.chars().take(MAX_SHOWN).collect();
                FixedListError::Line { line: index + 1, text, source }
            };
            let entry = parse_entry(text).map_err(malformed)?;
            if !names.insert(entry.node.clone()) {
                return Err(malformed(LineError::Duplicate(entry.node)));
            }
            if entries.len() == MAX_PEERS {
                return Err(FixedListError::TooMany);
            }
            entries.push(entry);
        }
    }
    if entries.is_empty() { Err(FixedListError::NoEntry) } else { Ok(entries) }
}

fn parse_entry(text: &str) -> Result<Entry, LineError> {
    let (name, target) = text.split_once('=').ok_or(LineError::NoName)?;
    let node = NodeName::new(name.trim()).map_err(LineError::Name)?;
    let (target, host) = target.split_once('/').map_or((target, None), |(t, h)| (t, Some(h)));
    let host = host.map(|host| host_address(host).ok_or(LineError::Host)).transpose()?;
    let target: HostPort = target.trim().parse().map_err(LineError::Target)?;
    if let Some(class) = target.address().and_then(|address| AddressRule::Fixed.refusal(address)) {
        return Err(LineError::Address(class));
    }
    Ok(Entry { node, target, host })
}

/// A link-local address lacks its interface.
fn host_address(text: &str) -> Option<IpAddr> {
    let host: IpAddr = text.trim().parse().ok()?;
    let has_interface = !matches!(host, IpAddr::V6(ip) if ip.is_unicast_link_local());
    (has_interface && AddressRule::Fixed.allows_host(host)).then_some(host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(text: &str) -> Vec<(String, String)> {
        let entries = parse(text).unwrap();
        entries.iter().map(|e| (e.node.to_string(), e.target.to_string())).collect()
    }

    #[test]
    fn commas_and_line_ends_separate_entries() {
        let text =
            "# the mesh\na=10.0.0.1:9050, b = host-b.lan:80 # by name\r\n\nc=[fd00::1]:9050,";
        let expected = [("a", "10.0.0.1:9050"), ("b", "host-b.lan:80"), ("c", "[fd00::1]:9050")];
        assert_eq!(entries(text), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(entries("\u{feff}a=h:1"), entries("a=h:1"));
        assert_eq!(entries("\u{feff}# the mesh\r\na=h:1\r\n"), entries("a=h:1"));
        assert!(parse("a=h:1\n\u{feff}b=h:1").is_err(), "only at the start");
    }

    #[test]
    fn a_loopback_or_link_local_address_is_allowed() {
        for target in ["127.0.0.1:1", "[::1]:1", "169.254.7.1:1", "[fe80::1%lo]:1"] {
            assert_eq!(entries(&format!("a={target}")), [("a".to_owned(), target.to_owned())]);
        }
    }

    #[test]
    fn a_link_local_address_has_its_zone() {
        assert_eq!(entries("a=[fe80::1%wg0]:9050").pop().unwrap().1, "[fe80::1%wg0]:9050");
    }

    #[test]
    fn an_entry_may_name_the_host_behind_the_peer() {
        let found = parse("a=10.99.0.2:9050/203.0.113.7, b=[fd00::1]:1 / fd00:1::2,c=h:1").unwrap();
        let hosts: Vec<_> = found.iter().map(|entry| entry.host).collect();
        let ip = |text: &str| Some(text.parse().unwrap());
        assert_eq!(hosts, [ip("203.0.113.7"), ip("fd00:1::2"), None]);
        assert_eq!(found[0].target.to_string(), "10.99.0.2:9050");
    }

    #[test]
    fn an_error_names_the_line() {
        const FORM: &str = "the address is not HOST:PORT (an IPv6 address stands in brackets)";
        const HOST: &str = "the host after '/' is not the IP address of one host";
        const PORT: &str = "the address has no port from 1 to 65535";
        for (text, line, shown, expected) in [
            ("a=h:1\nb", 2, "b", "is not NAME=HOST:PORT"),
            ("a b=h:1", 1, "a b=h:1", "the name holds a character"),
            ("=h:1", 1, "=h:1", "the name is empty"),
            ("a=h", 1, "a=h", FORM),
            ("a=:1", 1, "a=:1", FORM),
            ("a=fd00::1:9050", 1, "a=fd00::1:9050", FORM),
            ("a=[fd00::1:9050", 1, "a=[fd00::1:9050", FORM),
            ("a=[10.0.0.1]:9050", 1, "a=[10.0.0.1]:9050", FORM),
            ("a=h/x:1", 1, "a=h/x:1", HOST),
            ("a=h:1/", 1, "a=h:1/", HOST),
            ("a=h:1/b", 1, "a=h:1/b", HOST),
            ("a=h:1/10.0.0.1/8", 1, "a=h:1/10.0.0.1/8", HOST),
            ("a=h:1/224.0.0.1", 1, "a=h:1/224.0.0.1", HOST),
            ("a=h:1/fe80::1", 1, "a=h:1/fe80::1", HOST),
            ("a=h:0", 1, "a=h:0", PORT),
            ("a=h:65536", 1, "a=h:65536", PORT),
            ("a=h:+1", 1, "a=h:+1", PORT),
            ("a=h:", 1, "a=h:", PORT),
            (
                "a=224.0.0.1:1",
                1,
                "a=224.0.0.1:1",
                "the address is multicast, which no peer can have",
            ),
            ("a=[ff02::1%lo]:1", 1, "a=[ff02::1%lo]:1", "the address is multicast,"),
            ("a=255.255.255.255:1", 1, "a=255.255.255.255:1", "the address is broadcast,"),
            ("a=0.0.0.0:1", 1, "a=0.0.0.0:1", "the address is unspecified,"),
            ("a=[::]:1", 1, "a=[::]:1", "the address is unspecified,"),
            ("a=[::ffff:0.0.0.0]:1", 1, "a=[::ffff:0.0.0.0]:1", "the address is unspecified,"),
            ("a=h:1\n\na=h:2", 3, "a=h:2", "the name a is already used"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            let expected = format!("line {line}, {shown:?}: {expected}");
            assert!(error.starts_with(&expected), "{text:?}: {error}");
        }
        assert_eq!(parse("# nothing\n").unwrap_err().to_string(), "has no entry");
    }

    #[test]
    fn size_and_error_text_are_bounded() {
        let many: String = (0..=MAX_PEERS).map(|n| format!("n{n}=10.0.0.1:1\n")).collect();
        assert!(matches!(parse(&many), Err(FixedListError::TooMany)));
        assert!(matches!(parse(&"#".repeat((1 << 20) + 1)), Err(FixedListError::TooLong)));
        let error = parse(&format!("a={}", "h".repeat(10_000))).unwrap_err();
        assert!(error.to_string().len() < 200, "{error}");
    }

    proptest! {
        #[test]
        fn every_parsed_entry_has_host_and_port(text in "[a-c=:\\[\\]0-9.,#\n -]{0,60}") {
            for entry in parse(&text).unwrap_or_default() {
                prop_assert!(entry.target.port() != 0 && !entry.target.host().is_empty());
            }
        }
    }
}
