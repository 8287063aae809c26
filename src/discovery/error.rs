//! Why a list of peers could not be had: the error with its facts, and the closed set of reasons
//! that metrics and logs share.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::fixed::FixedListError;

use crate::label::label_set;

type Source = Box<dyn Error + Send + Sync>;

/// Why a refresh failed. None of them ever costs the last good set.
#[derive(Debug)]
pub enum DiscoveryError {
    /// The API server could not be reached, or broke off.
    Network {
        /// Host and port, as connected to.
        server: String,
        /// What the connection said.
        source: Source,
    },
    /// The whole list did not arrive in time.
    Timeout {
        /// Host and port.
        server: String,
        /// The deadline of the whole list.
        limit: Duration,
    },
    /// The server's certificate was refused, or the handshake failed.
    Tls {
        /// Host and port.
        server: String,
        /// What rustls said.
        source: Source,
    },
    /// The server's certificate is not yet valid: our own clock is probably behind.
    CertificateNotYetValid {
        /// Host and port.
        server: String,
    },
    /// A file of the service account cannot be read or used.
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Source,
    },
    /// 401, also with the token read anew.
    Unauthorized,
    /// 403: the Role or its binding is missing.
    Forbidden {
        /// Where the pods would be.
        namespace: String,
    },
    /// 429.
    Throttled {
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// 5xx.
    ServerError {
        /// The status.
        status: u16,
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// 3xx: never followed, since the token would go along.
    Redirect {
        /// The status.
        status: u16,
    },
    /// Any other status but 200.
    BadStatus {
        /// The status.
        status: u16,
    },
    /// 200 with something that is not a pod list.
    BadBody {
        /// What is wrong.
        source: Source,
    },
    /// More bytes, or more pods, than we are ready to hold.
    TooLarge {
        /// The bound that was passed.
        bound: &'static str,
    },
    /// A list without any pod: it should at least hold ourselves.
    Empty,
    /// A list in which our own pod is missing: it is another DaemonSet's, or out of date.
    WithoutSelf,
    /// The fixed list cannot be read or used.
    FixedList(FixedListError),
    /// No host name of the fixed list has an address.
    Unresolved {
        /// How many were asked for.
        names: usize,
    },
}

label_set! {
    /// The closed set of reasons, the label of `wylis_discovery_failures_total`.
    pub enum DiscoveryReason {
        /// See [`DiscoveryError::Network`].
        Network = "network",
        /// See [`DiscoveryError::Timeout`].
        Timeout = "timeout",
        /// See [`DiscoveryError::Tls`].
        Tls = "tls",
        /// See [`DiscoveryError::CertificateNotYetValid`].
        CertificateNotYetValid = "certificate_not_yet_valid",
        /// See [`DiscoveryError::Credentials`].
        Credentials = "credentials",
        /// See [`DiscoveryError::Unauthorized`].
        Unauthorized = "unauthorized",
        /// See [`DiscoveryError::Forbidden`].
        Forbidden = "forbidden",
        /// See [`DiscoveryError::Throttled`].
        Throttled = "throttled",
        /// See [`DiscoveryError::ServerError`].
        ServerError = "server_error",
        /// See [`DiscoveryError::Redirect`].
        Redirect = "redirect",
        /// See [`DiscoveryError::BadStatus`].
        BadStatus = "bad_status",
        /// See [`DiscoveryError::BadBody`].
        BadBody = "bad_body",
        /// See [`DiscoveryError::TooLarge`].
        TooLarge = "too_large",
        /// See [`DiscoveryError::Empty`].
        Empty = "empty",
        /// See [`DiscoveryError::WithoutSelf`].
        WithoutSelf = "without_self",
        /// See [`DiscoveryError::FixedList`] and [`DiscoveryError::Unresolved`].
        FixedList = "fixed_list",
    }
}

impl DiscoveryError {
    /// The reason as a label.
    #[must_use]
    pub const fn reason(&self) -> DiscoveryReason {
        match self {
            Self::Network { .. } => DiscoveryReason::Network,
            Self::Timeout { .. } => DiscoveryReason::Timeout,
            Self::Tls { .. } => DiscoveryReason::Tls,
            Self::CertificateNotYetValid { .. } => DiscoveryReason::CertificateNotYetValid,
            Self::Credentials { .. } => DiscoveryReason::Credentials,
            Self::Unauthorized => DiscoveryReason::Unauthorized,
            Self::Forbidden { .. } => DiscoveryReason::Forbidden,
            Self::Throttled { .. } => DiscoveryReason::Throttled,
            Self::ServerError { .. } => DiscoveryReason::ServerError,
            Self::Redirect { .. } => DiscoveryReason::Redirect,
            Self::BadStatus { .. } => DiscoveryReason::BadStatus,
            Self::BadBody { .. } => DiscoveryReason::BadBody,
            Self::TooLarge { .. } => DiscoveryReason::TooLarge,
            Self::Empty => DiscoveryReason::Empty,
            Self::WithoutSelf => DiscoveryReason::WithoutSelf,
            Self::FixedList(_) | Self::Unresolved { .. } => DiscoveryReason::FixedList,
        }
    }

    /// When the server wants to be asked again, where it said so.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::ServerError { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { server, source } => write!(f, "reach API server {server}: {source}"),
            Self::Timeout { server, limit } => {
                write!(f, "list pods from API server {server}: not whole within {limit:?}")
            }
            Self::Tls { server, source } => {
                write!(f, "verify API server {server}: {source}")
            }
            Self::CertificateNotYetValid { server } => write!(
                f,
                "verify API server {server}: its certificate is not yet valid; \
                 is this node's clock behind?"
            ),
            Self::Credentials { path, source } => {
                write!(f, "read service account file {}: {source}", path.display())
            }
            Self::Unauthorized => {
                f.write_str("list pods: 401, the service account's token is refused")
            }
            Self::Forbidden { namespace } => write!(
                f,
                "list pods: 403, the service account lacks the verb \"list\" on the resource \
                 \"pods\" (API group \"\") in the namespace {namespace:?}"
            ),
            Self::Throttled { retry_after } => {
                write!(f, "list pods: 429, the API server throttles us{}", Again(*retry_after))
            }
            Self::ServerError { status, retry_after } => {
                write!(f, "list pods: {status}{}", Again(*retry_after))
            }
            Self::Redirect { status } => {
                write!(f, "list pods: {status}, a redirect, which is never followed")
            }
            Self::BadStatus { status } => write!(f, "list pods: unexpected status {status}"),
            Self::BadBody { source } => write!(f, "list pods: not a pod list: {source}"),
            Self::TooLarge { bound } => write!(f, "list pods: more than {bound}"),
            Self::Empty => {
                f.write_str("list pods: the list is empty, not even this agent is in it")
            }
            Self::WithoutSelf => f.write_str("list pods: this agent's own pod is not in the list"),
            Self::FixedList(error) => write!(f, "fixed list of peers: {error}"),
            Self::Unresolved { names } => {
                write!(f, "fixed list of peers: none of {names} host names has an address")
            }
        }
    }
}

/// `, again after 5s`, or nothing.
struct Again(Option<Duration>);

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pause| write!(f, ", to be asked again after {pause:?}"))
    }
}

impl Error for DiscoveryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Network { source, .. }
            | Self::Tls { source, .. }
            | Self::Credentials { source, .. }
            | Self::BadBody { source } => Some(source.as_ref()),
            Self::FixedList(error) => Some(error),
            _ => None,
        }
    }
}

/// Only so that the module of addresses need not know this one.
impl From<FixedListError> for DiscoveryError {
    fn from(error: FixedListError) -> Self {
        Self::FixedList(error)
    }
}

/// Host and port as they stand in a URL and in an error: IPv6 in brackets.
#[must_use]
pub(super) fn host_and_port(host: &str, port: u16) -> String {
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_distinct_label_values() {
        let mut words: Vec<_> = DiscoveryReason::ALL.iter().map(|reason| reason.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), DiscoveryReason::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn a_missing_right_is_named_exactly() {
        let text = DiscoveryError::Forbidden { namespace: "wylis".to_owned() }.to_string();
        for word in ["\"list\"", "\"pods\"", "\"wylis\""] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn ipv6_hosts_stand_in_brackets() {
        assert_eq!(host_and_port("fd00::1", 443), "[fd00::1]:443");
        assert_eq!(host_and_port("[fd00::1]", 443), "[fd00::1]:443");
        assert_eq!(host_and_port("10.0.0.1", 6443), "10.0.0.1:6443");
        assert_eq!(host_and_port("kubernetes.default", 443), "kubernetes.default:443");
    }
}
