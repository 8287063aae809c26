//! The grammar of HOST:PORT in settings, peer lists and commands: `node-2:9050`, `10.99.0.2:9050`,
//! `[fd00::2]:9050`, `[fe80::2%wg0]:9050`.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

/// Longest host name (RFC 1035, 2.3.4).
const MAX_HOST: usize = 253;

/// A host, not resolved, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// A host name or an address; an IPv6 address has no brackets and may have a zone.
    host: String,
    port: u16,
}

/// Why a text is not HOST:PORT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostPortError {
    /// It has another form.
    #[error("is not HOST:PORT (an IPv6 address stands in brackets)")]
    Form,
    /// The port is not from 1 to 65535.
    #[error("has no port from 1 to 65535")]
    Port,
    /// A link-local address identifies no host without its interface (RFC 4007, 6).
    #[error("is a link-local address without its interface, as in [fe80::1%eth0]:9050")]
    Interface,
}

impl HostPort {
    /// Joins a host without brackets and a port.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// The host name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is an address, which needs no name server.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.address().is_some()
    }

    /// The host's address without its zone, if the host is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let (address, _) = self.host.split_once('%').unwrap_or((&self.host, ""));
        Some(SocketAddr::new(address.parse().ok()?, self.port))
    }

    /// All addresses of the host, in the resolver's order. Blocks; the resolver has its own timeout.
    ///
    /// # Errors
    /// When the resolver fails or returns no address.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
        }
        Ok(found)
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let (host, port) = text.rsplit_once(':').ok_or(HostPortError::Form)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|host| is_ipv6(host)),
            None => Some(host).filter(|host| is_name(host)),
        };
        let host = host.ok_or(HostPortError::Form)?;
        if host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_unicast_link_local()) {
            return Err(HostPortError::Interface);
        }
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0);
        Ok(Self::new(host, port.ok_or(HostPortError::Port)?))
    }
}

/// Whether a text is an IPv6 address, with or without a zone (RFC 4007, 11: the name of an interface or
/// its index).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').map_or((text, None), |(a, zone)| (a, Some(zone)));
    let is_zone = |zone: &str| !zone.is_empty() && zone.len() < 16 && zone.bytes().all(is_plain);
    address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(is_zone)
}

/// Whether a text is a host name or an IPv4 address.
fn is_name(text: &str) -> bool {
    (1..=MAX_HOST).contains(&text.len()) && text.bytes().all(is_plain)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_both_families_are_parsed_and_formatted() {
        for (text, host, port, is_address) in [
            ("node-2:9050", "node-2", 9050, false),
            ("d_1.example.org:1", "d_1.example.org", 1, false),
            ("10.99.0.2:65535", "10.99.0.2", 65535, true),
            ("[fd00::2]:9050", "fd00::2", 9050, true),
            ("[fe80::2%wg0]:9050", "fe80::2%wg0", 9050, true),
            ("[fe80::2%7]:9050", "fe80::2%7", 9050, true),
        ] {
            let read: HostPort = text.parse().unwrap();
            assert_eq!((read.host(), read.port(), read.is_address()), (host, port, is_address));
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let long = format!("{}:1", "n".repeat(MAX_HOST + 1));
        for text in [
            "",
            ":1",
            "node",
            "fd00::2",
            "fd00::2:9050",
            "[fd00::2]",
            "[fd00::2:9050",
            "[10.0.0.1]:1",
            "[fe80::2%]:1",
            "[fe80::2%a/b]:1",
            "a b:1",
            "a/b:1",
            "a:1:2",
            "n\u{e4}:1",
            &long,
        ] {
            assert_eq!(text.parse::<HostPort>(), Err(HostPortError::Form), "{text}");
        }
        for text in ["[fe80::2]:9050", "[febf::1]:1"] {
            assert_eq!(text.parse::<HostPort>(), Err(HostPortError::Interface), "{text}");
        }
        for text in ["a:", "a:0", "a:65536", "a:+1", "a:x", "[::1]:"] {
            assert_eq!(text.parse::<HostPort>(), Err(HostPortError::Port), "{text}");
        }
    }

    #[test]
    fn a_zone_resolves_to_the_index_of_its_interface() {
        let found = "[fe80::2%lo]:9050".parse::<HostPort>().unwrap().resolve().unwrap();
        let [SocketAddr::V6(address)] = found.as_slice() else { panic!("{found:?}") };
        assert_ne!(address.scope_id(), 0);
        assert_eq!(address.ip(), &"fe80::2".parse::<Ipv6Addr>().unwrap());
    }
}
