//! The routes of the public port. Paths are classified here only: the gate uses a route's label and lane,
//! the server answers it.

use crate::label::label_set;
use crate::name::NodeName;
use crate::wire;

/// What a path requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/keepalive`: the blank request of the agents.
    KeepAlive,
    /// `/metrics`: the Prometheus text.
    Metrics,
    /// `/healthz`: whether the agent's loops make progress.
    Healthz,
    /// `/readyz`: whether the agent has a list of peers and is not stopping.
    Readyz,
    /// `/api/v1/peers`: this node's peers in full.
    Peers,
    /// `/api/v1/peers/NODE`: one of these peers.
    Peer(NodeName),
    /// `/api/v1/row`: this node's row of the matrix, which collectors read.
    Row,
    /// `/api/v1/row/NODE`: the row of a peer, fetched from it for a collector that does not reach it.
    RowOf(NodeName),
    /// `/api/v1/cluster`: the rows of all nodes.
    Matrix,
    /// `/api/v1/health`: whether the matrix has no grave finding, for an uptime monitor.
    Health,
    /// `/api/v1/cluster/SOURCE/TARGET`: one pair as its source sees it.
    Pair(NodeName, NodeName),
    /// GET of `/api/v1/survey`: its progress and result.
    Survey,
    /// POST to `/api/v1/survey`: a command; the one that begins a survey asks the peers first.
    SurveyCommand,
    /// `/api/v1/history`: what this agent remembers of its peers.
    History,
    /// `/api/v1/history/day`: the last day of the mesh, in words.
    Day,
    /// `/api/v1/history/SECONDS`: the matrix of a past moment.
    PastMatrix(u64),
    /// `/api/v1/history/SOURCE/TARGET`: what the source remembers of one pair.
    PastPair(NodeName, NodeName),
    /// `/api/v1/past/row/SECONDS`: this node's row of a past moment, which collectors read.
    PastRow(u64),
    /// `/api/v1/past/row/SECONDS/NODE`: that of a peer, fetched from it for a collector that does not reach it.
    PastRowOf(u64, NodeName),
    /// `/api/v1/past/faults`: when this node's peers were not up, which collectors read.
    Faults,
    /// `/api/v1/past/faults/NODE`: the same of a peer, fetched from it for a collector that does not reach it.
    FaultsOf(NodeName),
    /// `/api/v1/past/peers/NODE`: what this agent remembers of one peer.
    PastPeer(NodeName),
    /// `/`: the page.
    Page,
    /// Any other path.
    Unknown,
}

label_set! {
    /// The queue in which a request waits for the server, and the connection on which it is answered.
    pub enum Lane {
        /// Small responses of a known size: never delayed by a slow reader.
        Small = "small",
        /// Responses of any size, of what the agent has.
        Bulk = "bulk",
        /// Responses gathered from the peers first, which takes seconds. Apart from bulk, or two agents
        /// that gather from each other would each wait for themselves.
        Gathered = "gathered",
        /// Details of a pair, which its source is asked for. Apart from gathered, or a source that does not
        /// respond would delay the matrix. And commands of a survey.
        Pair = "pair",
    }
}

/// One value for each lane.
#[derive(Debug)]
pub struct Lanes<T> {
    /// For [`Lane::Small`].
    pub small: T,
    /// For [`Lane::Bulk`].
    pub bulk: T,
    /// For [`Lane::Gathered`].
    pub gathered: T,
    /// For [`Lane::Pair`].
    pub pair: T,
}

impl<T> Lanes<T> {
    /// All values, in the order of [`Lane::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.small, &self.bulk, &self.gathered, &self.pair].into_iter()
    }

    /// The value of a lane.
    pub fn get_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Small => &mut self.small,
            Lane::Bulk => &mut self.bulk,
            Lane::Gathered => &mut self.gathered,
            Lane::Pair => &mut self.pair,
        }
    }
}

const MATRIX_PATH: &str = "/api/v1/cluster";
const PEERS_PATH: &str = "/api/v1/peers";
const HEALTH_PATH: &str = "/api/v1/health";
const DAY_PATH: &str = "/api/v1/history/day";

/// The routes without names in their path.
const PLAIN: [(&str, Route); 11] = [
    (wire::KEEPALIVE_PATH, Route::KeepAlive),
    ("/metrics", Route::Metrics),
    ("/healthz", Route::Healthz),
    ("/readyz", Route::Readyz),
    (PEERS_PATH, Route::Peers),
    (wire::ROW_PATH, Route::Row),
    (MATRIX_PATH, Route::Matrix),
    (HEALTH_PATH, Route::Health),
    (wire::SURVEY_PATH, Route::Survey),
    (wire::HISTORY_PATH, Route::History),
    ("/", Route::Page),
];

impl Route {
    /// All values of [`Route::label`].
    pub const LABELS: [&str; 12] = [
        wire::KEEPALIVE_PATH,
        "/metrics",
        "/healthz",
        "/readyz",
        PEERS_PATH,
        wire::ROW_PATH,
        MATRIX_PATH,
        HEALTH_PATH,
        wire::SURVEY_PATH,
        wire::HISTORY_PATH,
        "/",
        "other",
    ];

    /// Classifies a path without its query.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let name = |text: &str| NodeName::new(text).ok();
        if let Some((_, route)) = PLAIN.into_iter().find(|(plain, _)| *plain == path) {
            return route;
        }
        if let Some(node) = path.strip_prefix(wire::PEER_PATH).and_then(name) {
            return Self::Peer(node);
        }
        if let Some(node) = path.strip_prefix(wire::ROW_OF_PATH).and_then(name) {
            return Self::RowOf(node);
        }
        let pair = path.strip_prefix(MATRIX_PATH).and_then(|rest| rest.strip_prefix('/'));
        if let Some((source, target)) = pair.and_then(|pair| pair.split_once('/'))
            && let (Some(source), Some(target)) = (name(source), name(target))
        {
            return Self::Pair(source, target);
        }
        Self::of_the_past(path).unwrap_or(Self::Unknown)
    }

    fn of_the_past(path: &str) -> Option<Self> {
        let name = |text: &str| NodeName::new(text).ok();
        if path == DAY_PATH {
            return Some(Self::Day);
        }
        if path == wire::FAULTS_PATH {
            return Some(Self::Faults);
        }
        let after = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix('/');
        if let Some(rest) = after(wire::HISTORY_PATH) {
            return Some(match rest.split_once('/') {
                Some((source, target)) => Self::PastPair(name(source)?, name(target)?),
                None => Self::PastMatrix(seconds(rest)?),
            });
        }
        if let Some(rest) = after(wire::PAST_ROW_PATH) {
            return Some(match rest.split_once('/') {
                Some((at, node)) => Self::PastRowOf(seconds(at)?, name(node)?),
                None => Self::PastRow(seconds(rest)?),
            });
        }
        let of_a_peer = |prefix: &str| after(prefix).and_then(name);
        if let Some(node) = of_a_peer(wire::FAULTS_PATH) {
            return Some(Self::FaultsOf(node));
        }
        of_a_peer(wire::PAST_PEER_PATH).map(Self::PastPeer)
    }

    /// The value of the label `route`; a path with names counts under its prefix.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::KeepAlive => wire::KEEPALIVE_PATH,
            Self::Metrics => "/metrics",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::Peers | Self::Peer(_) => PEERS_PATH,
            Self::Row | Self::RowOf(_) => wire::ROW_PATH,
            Self::Matrix | Self::Pair(..) => MATRIX_PATH,
            Self::Health => HEALTH_PATH,
            Self::Survey | Self::SurveyCommand => wire::SURVEY_PATH,
            Self::History
            | Self::Day
            | Self::PastMatrix(_)
            | Self::PastPair(..)
            | Self::PastRow(_)
            | Self::PastRowOf(..)
            | Self::Faults
            | Self::FaultsOf(_)
            | Self::PastPeer(_) => wire::HISTORY_PATH,
            Self::Page => "/",
            Self::Unknown => "other",
        }
    }

    /// The lane of its response.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Metrics
            | Self::Peers
            | Self::Peer(_)
            | Self::Row
            | Self::Survey
            | Self::History
            | Self::PastRow(_)
            | Self::Faults
            | Self::PastPeer(_)
            | Self::Page => Lane::Bulk,
            Self::Matrix | Self::Health | Self::Day | Self::PastMatrix(_) => Lane::Gathered,
            Self::Pair(..)
            | Self::RowOf(_)
            | Self::PastPair(..)
            | Self::PastRowOf(..)
            | Self::FaultsOf(_)
            | Self::SurveyCommand => Lane::Pair,
            Self::KeepAlive | Self::Healthz | Self::Readyz | Self::Unknown => Lane::Small,
        }
    }
}

/// Unix seconds in a path: digits alone, so that one moment has one path.
fn seconds(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plain_path_is_its_own_label_and_unknown_paths_share_one() {
        for (path, route) in PLAIN {
            assert_eq!((Route::of(path), route.label()), (route.clone(), path));
        }
        let labels = PLAIN.iter().map(|(path, _)| *path).chain(["other"]);
        assert_eq!(labels.collect::<Vec<_>>(), Route::LABELS);
        for path in [
            "/nothing",
            "other",
            "",
            "/metrics/",
            "/api/v1/peers/",
            "/api/v1/cluster/a",
            "/api/v1/clustera/b",
        ] {
            assert_eq!(Route::of(path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn the_past_has_one_label_and_the_lanes_of_the_present() {
        let name = |text: &str| NodeName::new(text).unwrap();
        for (path, route, lane) in [
            ("/api/v1/history", Route::History, Lane::Bulk),
            ("/api/v1/history/day", Route::Day, Lane::Gathered),
            ("/api/v1/history/1764500000", Route::PastMatrix(1_764_500_000), Lane::Gathered),
            ("/api/v1/history/a/1", Route::PastPair(name("a"), name("1")), Lane::Pair),
            ("/api/v1/past/row/17", Route::PastRow(17), Lane::Bulk),
            ("/api/v1/past/row/17/a", Route::PastRowOf(17, name("a")), Lane::Pair),
            ("/api/v1/past/faults", Route::Faults, Lane::Bulk),
            ("/api/v1/past/faults/a", Route::FaultsOf(name("a")), Lane::Pair),
            ("/api/v1/past/peers/a", Route::PastPeer(name("a")), Lane::Bulk),
        ] {
            let found = Route::of(path);
            assert_eq!((&found, found.label(), found.lane()), (&route, "/api/v1/history", lane));
        }
        for path in [
            "/api/v1/history/",
            "/api/v1/history/night",
            "/api/v1/history/-1",
            "/api/v1/history/+1",
            "/api/v1/history/017",
            "/api/v1/history/18446744073709551616",
            "/api/v1/history/a/b/c",
            "/api/v1/historya/b",
            "/api/v1/past/row",
            "/api/v1/past/row/a",
            "/api/v1/past/row/17/",
            "/api/v1/past/row/17/a/b",
            "/api/v1/past/faults/",
            "/api/v1/past/peers",
        ] {
            assert_eq!(Route::of(path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn paths_with_names_count_under_their_prefix() {
        let name = |text: &str| NodeName::new(text).unwrap();
        let long = "n".repeat(253);
        let peer = Route::of(&format!("/api/v1/peers/{long}"));
        assert_eq!((&peer, peer.label()), (&Route::Peer(name(&long)), "/api/v1/peers"));
        let pair = Route::of(&format!("/api/v1/cluster/{long}/n2"));
        assert_eq!((&pair, pair.label()), (&Route::Pair(name(&long), name("n2")), MATRIX_PATH));
        assert_eq!((pair.lane(), Route::Matrix.lane()), (Lane::Pair, Lane::Gathered));
        let row = Route::of(&format!("/api/v1/row/{long}"));
        assert_eq!((&row, row.label()), (&Route::RowOf(name(&long)), "/api/v1/row"));
        assert_eq!((row.lane(), Route::Row.lane()), (Lane::Pair, Lane::Bulk));
        for path in [
            "/api/v1/peers/a~b",
            "/api/v1/peers/a/b",
            "/api/v1/cluster/a/b/c",
            "/api/v1/cluster//b",
            "/api/v1/row/a/b",
            "/api/v1/row/",
            &format!("/api/v1/peers/{long}n"),
        ] {
            assert_eq!(Route::of(path), Route::Unknown, "{path}");
        }
    }
}
