//! The gate's counters: atomics that the metrics read while the gate runs.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::label::label_set;

label_set! {
    /// Why a client got no response of the server, or not all of it.
    pub enum Rejection {
        /// The head is malformed, or not allowed. 400.
        BadRequest = "bad_request",
        /// Data follows the head, or is announced. 400.
        Body = "body",
        /// The path is too long or has characters of no route. 404.
        Path = "path",
        /// Neither GET nor HEAD, nor a POST to the survey. 405.
        Method = "method",
        /// The head did not come, or the response was not read, in time. 408 or a reset.
        Timeout = "timeout",
        /// The head or its request line is too long. 431.
        TooLarge = "too_large",
        /// The queue of the lane is full, or the wait in it too long. 503.
        Overload = "overload",
        /// Neither HTTP/1.1 nor HTTP/1.0. 505.
        Version = "version",
        /// An incomplete head had to make room for a newer connection. A reset.
        Evicted = "evicted",
        /// No descriptor for a new connection, which waits in the backlog. Counted once a pause.
        NoDescriptors = "no_descriptors",
        /// The client left before the end of its response, or did not acknowledge it.
        ClientGone = "client_gone",
    }
}

impl Rejection {
    /// Code and phrase of the status line; `None` if there is no response.
    pub(super) fn status(self) -> Option<&'static str> {
        match self {
            Self::BadRequest | Self::Body => Some("400 Bad Request"),
            Self::Path => Some("404 Not Found"),
            Self::Method => Some("405 Method Not Allowed"),
            Self::Timeout => Some("408 Request Timeout"),
            Self::TooLarge => Some("431 Request Header Fields Too Large"),
            Self::Overload => Some("503 Service Unavailable"),
            Self::Version => Some("505 HTTP Version Not Supported"),
            Self::Evicted | Self::NoDescriptors | Self::ClientGone => None,
        }
    }
}

/// The status codes of the server; any other counts as the last.
const CODES: [&str; 7] = ["200", "204", "400", "404", "405", "503", "other"];

/// The counters of one gate.
#[derive(Debug)]
pub struct Counters {
    labels: &'static [&'static str],
    requests: Vec<[AtomicU64; CODES.len()]>,
    rejected: [AtomicU64; Rejection::ALL.len()],
    connections: AtomicU64,
}

impl Counters {
    /// All at zero; `labels` are the routes, a closed set.
    #[must_use]
    pub fn new(labels: &'static [&'static str]) -> Self {
        Self {
            labels,
            requests: labels.iter().map(|_| Default::default()).collect(),
            rejected: Default::default(),
            connections: AtomicU64::new(0),
        }
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The number of these rejections.
    #[must_use]
    pub fn rejected(&self, rejection: Rejection) -> u64 {
        self.rejected.get(rejection as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Requests that the server answered: route, code, count. Zeros are left out.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        self.labels.iter().zip(&self.requests).flat_map(|(label, counts)| {
            let counts = CODES.iter().zip(counts);
            let counts = counts.map(move |(code, n)| (*label, *code, n.load(Ordering::Relaxed)));
            counts.filter(|(_, _, count)| *count > 0)
        })
    }

    pub(super) fn set_connections(&self, open: usize) {
        self.connections.store(open as u64, Ordering::Relaxed);
    }

    pub(super) fn reject(&self, rejection: Rejection) {
        if let Some(count) = self.rejected.get(rejection as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A label outside the set is a bug, which costs this count only.
    pub(super) fn count_response(&self, label: &str, code: u16) {
        let route = self.labels.iter().position(|known| *known == label);
        let code = CODES.iter().position(|known| known.parse() == Ok(code));
        let counts = route.and_then(|route| self.requests.get(route));
        if let Some(count) = counts.and_then(|counts| counts.get(code.unwrap_or(CODES.len() - 1))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rejection_has_its_own_counter_and_label() {
        let counters = Counters::new(&[]);
        for (at, rejection) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(rejection as usize, at, "{rejection:?}");
            counters.reject(rejection);
            assert_eq!(counters.rejected(rejection), 1, "{rejection:?}");
        }
        let mut names: Vec<&str> = Rejection::ALL.map(Rejection::as_str).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Rejection::ALL.len());
    }

    #[test]
    fn requests_are_counted_within_closed_sets() {
        let counters = Counters::new(&["/keepalive", "/metrics"]);
        counters.count_response("/keepalive", 204);
        counters.count_response("/keepalive", 204);
        counters.count_response("/metrics", 299);
        counters.count_response("/unknown", 200);
        let seen: Vec<_> = counters.requests().collect();
        assert_eq!(seen, [("/keepalive", "204", 2), ("/metrics", "other", 1)]);
    }
}
