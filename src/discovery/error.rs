//! Why a refresh failed: the error with its facts, and the closed set of reasons that metrics and
//! logs share.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use super::fixed::list::FixedListError;
use crate::label::label_set;

/// The underlying error of a [`DiscoveryError`].
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Defines [`DiscoveryError`] and, one for each of its variants, [`DiscoveryReason`].
macro_rules! discovery_errors {
    ($(
        #[doc = $doc:literal]
        #[error($($text:tt)+)]
        $variant:ident $({ $($fields:tt)+ })? $(( $($cause:tt)+ ))? = $label:literal,
    )+) => {
        /// Why a refresh failed. The last good set stays in force.
        #[derive(Debug, thiserror::Error)]
        pub enum DiscoveryError {
            $(
                #[doc = $doc]
                #[error($($text)+)]
                $variant $({ $($fields)+ })? $(( $($cause)+ ))?,
            )+
        }

        label_set! {
            /// The reason as the label of `wylis_discovery_failures_total`.
            pub enum DiscoveryReason {
                $(#[doc = $doc] $variant = $label,)+
            }
        }

        impl DiscoveryError {
            /// The reason as a label.
            #[must_use]
            pub const fn reason(&self) -> DiscoveryReason {
                match self {
                    $(Self::$variant { .. } => DiscoveryReason::$variant,)+
                }
            }
        }
    };
}

discovery_errors! {
    /// The API server cannot be reached, or the connection breaks.
    #[error("list pods from API server {server}: {source}")]
    Network {
        /// Host and port.
        server: String,
        /// The error of the connection.
        source: BoxError,
    } = "network",
    /// The response is not complete before the deadline.
    #[error("list pods from API server {server}: no complete response within {limit:?}")]
    Timeout {
        /// Host and port.
        server: String,
        /// The deadline of the whole list.
        limit: Duration,
    } = "timeout",
    /// The TLS handshake fails, or the server's certificate is not valid.
    #[error("TLS handshake with API server {server}: {source}{hint}")]
    Tls {
        /// Host and port.
        server: String,
        /// The error of rustls.
        source: BoxError,
        /// What to do, after a semicolon; empty if the error says it.
        hint: &'static str,
    } = "tls",
    /// The server's certificate is not valid yet: this node's clock is probably behind.
    #[error(
        "TLS handshake with API server {server}: the certificate is not valid yet, \
         check this node's clock"
    )]
    CertificateNotYetValid {
        /// Host and port.
        server: String,
    } = "certificate_not_yet_valid",
    /// The server's certificate is of a kind that this agent cannot verify.
    #[error("TLS handshake with API server {server}: {source}; {hint}")]
    CertificateUnsupported {
        /// Host and port.
        server: String,
        /// The error of rustls.
        source: BoxError,
        /// What is supported, and what to do.
        hint: &'static str,
    } = "certificate_unsupported",
    /// A file of the service account cannot be used.
    #[error("read service account file {path}: {source}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BoxError,
    } = "credentials",
    /// Status 401, with the token read again as well.
    #[error("list pods: 401, the API server rejects the service account's token")]
    Unauthorized = "unauthorized",
    /// Status 403: the Role or its binding is missing.
    #[error(
        "list pods: 403, the service account lacks the verb \"list\" on the resource \"pods\" \
         (API group \"\") in the namespace {namespace:?}"
    )]
    Forbidden {
        /// The namespace of the pods.
        namespace: String,
    } = "forbidden",
    /// Status 429.
    #[error("list pods: 429, the API server throttles this agent{}", pause(*retry_after))]
    Throttled {
        /// The pause that the server asks for.
        retry_after: Option<Duration>,
    } = "throttled",
    /// Status 5xx.
    #[error("list pods: {status}{}", pause(*retry_after))]
    ServerError {
        /// The status.
        status: u16,
        /// The pause that the server asks for.
        retry_after: Option<Duration>,
    } = "server_error",
    /// Status 3xx. A redirect is never followed, since it would take the token along.
    #[error("list pods: {status}, redirects are not followed")]
    Redirect {
        /// The status.
        status: u16,
    } = "redirect",
    /// Any other status but 200.
    #[error("list pods: unexpected status {status}")]
    BadStatus {
        /// The status.
        status: u16,
    } = "bad_status",
    /// The body is not a pod list.
    #[error("list pods: invalid pod list: {source}")]
    BadBody {
        /// What is wrong with it.
        source: BoxError,
    } = "bad_body",
    /// The response exceeds a limit.
    #[error("list pods: more than {bound}")]
    TooLarge {
        /// The limit.
        bound: &'static str,
    } = "too_large",
    /// The list has no pod; it should have this agent's own at least.
    #[error("list pods: the list is empty, without even this agent's own pod")]
    Empty = "empty",
    /// The list lacks this agent's own pod: it is another DaemonSet's, or out of date.
    #[error("list pods: this agent's own pod is not in the list")]
    WithoutSelf = "without_self",
    /// The fixed list cannot be read or used.
    #[error("fixed list of peers: {0}")]
    FixedList(#[from] FixedListError) = "fixed_list",
}

impl DiscoveryError {
    /// The pause that the server asks for.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::ServerError { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// `, retry after 5s`, or nothing.
fn pause(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |pause| format!(", retry after {pause:?}"))
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
    fn a_requested_pause_is_in_the_text() {
        let throttled = |seconds: Option<u64>| {
            let retry_after = seconds.map(Duration::from_secs);
            DiscoveryError::Throttled { retry_after }.to_string()
        };
        assert!(throttled(Some(5)).ends_with(", retry after 5s"));
        assert!(throttled(None).ends_with("this agent"));
    }
}
