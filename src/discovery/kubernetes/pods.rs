//! From pods to peers: which pods are ours, and which one of each node is probed. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::discovery::error::DiscoveryError;
use crate::name::{Instance, NodeName};
use crate::peer::{MAX_PEERS, Peer, PeerSet, PodCounts};

/// How long after its deadline a terminating pod counts as left behind by a dead node: the kubelet
/// removes a pod at its deadline within seconds, if it lives.
const LEFT_BEHIND_AFTER: i64 = 30;

/// Who we are, to find ourselves in a list.
#[derive(Debug, Clone)]
pub struct Own {
    /// Our node.
    pub node: NodeName,
    /// Our pod's name, where it is known.
    pub pod_name: Option<String>,
    /// Our pod's UID, where it is known.
    pub pod_uid: Option<Instance>,
}

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodPhase {
    /// `Pending`, or none yet.
    Pending,
    /// `Running`, and `Unknown`, which an unreachable node's pods had in old releases.
    Running,
    /// `Succeeded` or `Failed`: it will not come back.
    Ended,
}

/// The fields of a pod that decide.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) uid: Instance,
    /// Whether the name is that of our own pod.
    pub(super) own_name: bool,
    /// `None` while unscheduled.
    pub(super) node: Option<NodeName>,
    /// The UID of the controller among its owners.
    pub(super) controller: Option<Arc<str>>,
    /// Seconds since 1970.
    pub(super) created: i64,
    /// The deadline of its deletion, in seconds since 1970.
    pub(super) deadline: Option<i64>,
    pub(super) phase: PodPhase,
    pub(super) ready: bool,
    /// The primary address first.
    pub(super) ips: Vec<IpAddr>,
}

/// What a pod can be for its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Scheduled, started, with an address.
    Candidate,
    Pending,
    NoIp,
    /// Being deleted, or ended.
    Leaving,
    /// Terminating past its deadline: its node is probably dead.
    LeftBehind,
}

impl Pod {
    fn standing(&self, now: i64) -> Standing {
        if self.phase == PodPhase::Ended {
            return Standing::Leaving;
        }
        if let Some(deadline) = self.deadline {
            let overdue = now.saturating_sub(deadline) > LEFT_BEHIND_AFTER;
            let reachable = self.node.is_some() && !self.ips.is_empty();
            return if overdue && reachable { Standing::LeftBehind } else { Standing::Leaving };
        }
        if self.node.is_none() || self.phase == PodPhase::Pending {
            Standing::Pending
        } else if self.ips.is_empty() {
            Standing::NoIp
        } else {
            Standing::Candidate
        }
    }

    /// The better one of a node is the greater: ready, then newest; the UID only makes it stable.
    fn rank(&self) -> (bool, i64, &Instance) {
        (self.ready, self.created, &self.uid)
    }
}

/// Until when the same pods amount to the same peers, in seconds since 1970: then the first of those
/// that are being deleted is overdue.
pub(super) fn same_until(pods: &[Pod], now: i64) -> i64 {
    let overdue =
        |pod: &Pod| pod.deadline.map(|deadline| deadline.saturating_add(LEFT_BEHIND_AFTER));
    pods.iter().filter_map(overdue).filter(|overdue| *overdue >= now).min().unwrap_or(i64::MAX)
}

/// What the pods of one node amount to.
#[derive(Default)]
struct Node<'a> {
    best: Option<&'a Pod>,
    left_behind: Option<&'a Pod>,
    /// A pod that is neither leaving nor left behind.
    alive: bool,
}

/// The peers among the pods of one list.
///
/// # Errors
/// When the list is empty, or our own pod is not in it, or there are too many peers.
pub(super) fn choose(
    pods: &[Pod],
    malformed: usize,
    own: &Own,
    port: u16,
    now: i64,
) -> Result<PeerSet, DiscoveryError> {
    if pods.is_empty() && malformed == 0 {
        return Err(DiscoveryError::Empty);
    }
    let ourselves = find_own(pods, own).ok_or(DiscoveryError::WithoutSelf)?;
    let siblings = pods.iter().filter(|pod| match &ourselves.controller {
        Some(controller) => pod.controller.as_ref() == Some(controller),
        // Nobody controls us: the selector alone tells who belongs to us.
        None => true,
    });
    let mut counts = PodCounts::default();
    let mut nodes: BTreeMap<&NodeName, Node<'_>> = BTreeMap::new();
    for pod in siblings {
        if pod.uid == ourselves.uid || pod.node.as_ref() == Some(&own.node) {
            counts.own += 1;
            continue;
        }
        let standing = pod.standing(now);
        match standing {
            Standing::Pending => counts.pending += 1,
            Standing::NoIp => counts.no_ip += 1,
            // Those that do not become the peer of their node leave it: counted as such, and taken
            // back below for those that do.
            Standing::Leaving | Standing::LeftBehind | Standing::Candidate => {
                counts.terminating += 1;
            }
        }
        let Some(name) = &pod.node else { continue };
        let node = nodes.entry(name).or_default();
        let better = |best: Option<&Pod>| best.is_none_or(|best| best.rank() < pod.rank());
        match standing {
            Standing::Candidate if better(node.best) => node.best = Some(pod),
            Standing::LeftBehind if better(node.left_behind) => node.left_behind = Some(pod),
            _ => {}
        }
        node.alive |= !matches!(standing, Standing::Leaving | Standing::LeftBehind);
    }
    let mut set = PeerSet::default();
    for (name, node) in nodes {
        let left_behind = node.left_behind.filter(|_| !node.alive);
        let Some(peer) = node.best.or(left_behind).and_then(|pod| peer(name, pod, port)) else {
            continue;
        };
        counts.terminating = counts.terminating.saturating_sub(1);
        counts.peer += 1;
        set.insert(peer);
    }
    if set.len() > MAX_PEERS {
        return Err(DiscoveryError::TooLarge { bound: "5,000 peers" });
    }
    set.pods = counts;
    Ok(set)
}

fn peer(node: &NodeName, pod: &Pod, port: u16) -> Option<Peer> {
    let (primary, others) = pod.ips.split_first()?;
    Some(Peer {
        node: node.clone(),
        address: SocketAddr::new(*primary, port),
        other_addresses: others.to_vec(),
        instance: Some(pod.uid.clone()),
        ready: Some(pod.ready),
    })
}

/// By the UID where we know it, else by the name, else the newest on our node. What we know must be
/// there: a list without our own pod is older than we are, or another DaemonSet's.
fn find_own<'a>(pods: &'a [Pod], own: &Own) -> Option<&'a Pod> {
    match (&own.pod_uid, &own.pod_name) {
        (Some(uid), _) => pods.iter().find(|pod| pod.uid == *uid),
        (None, Some(_)) => pods.iter().find(|pod| pod.own_name),
        (None, None) => {
            let here = pods.iter().filter(|pod| pod.node.as_ref() == Some(&own.node));
            here.max_by_key(|pod| (pod.deadline.is_none(), pod.created))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn pod(uid: &str, node: &str, ip: &str) -> Pod {
        Pod {
            uid: Instance::new(uid).unwrap(),
            own_name: false,
            node: Some(NodeName::new(node).unwrap()),
            controller: Some("ds".into()),
            created: NOW - 1000,
            deadline: None,
            phase: PodPhase::Running,
            ready: true,
            ips: vec![ip.parse().unwrap()],
        }
    }

    fn own() -> Own {
        Own {
            node: NodeName::new("me").unwrap(),
            pod_name: Some("wylis-me".to_owned()),
            pod_uid: Some(Instance::new("uid-me").unwrap()),
        }
    }

    fn me() -> Pod {
        pod("uid-me", "me", "10.0.0.1")
    }

    fn chosen(pods: &[Pod]) -> PeerSet {
        choose(pods, 0, &own(), 9050, NOW).unwrap()
    }

    fn instances(set: &PeerSet) -> Vec<&str> {
        set.iter().filter_map(|peer| peer.instance.as_ref().map(Instance::as_str)).collect()
    }

    #[test]
    fn a_peer_is_a_pod_of_our_daemon_set_on_another_node() {
        let mut dual = pod("a", "node-a", "10.0.0.2");
        dual.ips.push("fd00::2".parse().unwrap());
        let mut stranger = pod("b", "node-b", "10.0.0.3");
        stranger.controller = Some("other".into());
        let mut loose = pod("c", "node-c", "10.0.0.4");
        loose.controller = None;
        let neighbour = pod("d", "me", "10.0.0.5");
        let set = chosen(&[me(), dual, stranger, loose, neighbour]);
        assert_eq!(instances(&set), ["a"]);
        let peer = set.iter().next().unwrap();
        assert_eq!(peer.address, "10.0.0.2:9050".parse().unwrap());
        assert_eq!(peer.other_addresses, ["fd00::2".parse::<IpAddr>().unwrap()]);
        assert_eq!(set.pods, PodCounts { peer: 1, own: 2, ..PodCounts::default() });
    }

    #[test]
    fn where_nobody_controls_us_the_selector_decides() {
        let mut alone = me();
        alone.controller = None;
        assert_eq!(chosen(&[alone, pod("a", "node-a", "10.0.0.2")]).len(), 1);
    }

    #[test]
    fn we_find_ourselves_by_the_best_that_we_know_and_by_nothing_less() {
        let mut renamed = pod("x", "elsewhere", "10.0.0.9");
        renamed.own_name = true;
        renamed.controller = Some("by-name".into());
        let mut here = pod("y", "me", "10.0.0.8");
        here.controller = Some("by-node".into());
        let found =
            |pods: &[Pod], own: &Own| find_own(pods, own).map(|pod| pod.uid.as_str().to_owned());
        let named = Own { pod_uid: None, ..own() };
        let nameless = Own { pod_uid: None, pod_name: None, ..own() };
        let all = [here.clone(), renamed, me()];
        assert_eq!(found(&all, &own()).as_deref(), Some("uid-me"));
        assert_eq!(found(&all[..2], &own()), None, "a list from before our time");
        assert_eq!(found(&all[..2], &named).as_deref(), Some("x"));
        assert_eq!(found(&[here.clone()], &named), None);
        assert_eq!(found(&[here], &nameless).as_deref(), Some("y"));
        assert_eq!(found(&[pod("a", "node-a", "10.0.0.2")], &nameless), None);
    }

    #[test]
    fn the_newest_ready_pod_of_a_node_is_its_peer_else_the_newest() {
        let mut old = pod("old", "node-a", "10.0.0.2");
        let mut new = pod("new", "node-a", "10.0.0.3");
        new.created += 60;
        assert_eq!(instances(&chosen(&[me(), old.clone(), new.clone()])), ["new"]);
        new.ready = false;
        assert_eq!(instances(&chosen(&[me(), new.clone(), old.clone()])), ["old"]);
        old.ready = false;
        let set = chosen(&[me(), new, old]);
        assert_eq!(instances(&set), ["new"]);
        assert_eq!((set.pods.peer, set.pods.terminating), (1, 1));
    }

    #[test]
    fn a_terminating_pod_is_no_peer_until_its_node_seems_dead() {
        let mut leaving = pod("a", "node-a", "10.0.0.2");
        for (late, peers) in [(-30, 0), (0, 0), (30, 0), (31, 1), (100_000, 1)] {
            leaving.deadline = Some(NOW - late);
            let set = chosen(&[me(), leaving.clone()]);
            assert_eq!(set.len(), peers, "{late}");
            assert_eq!(set.pods.terminating, 1 - peers as u64, "{late}");
        }
    }

    #[test]
    fn the_same_pods_are_the_same_peers_until_the_first_of_them_is_overdue() {
        let mut leaving = pod("a", "node-a", "10.0.0.2");
        leaving.deadline = Some(NOW + 10);
        let mut later = pod("b", "node-b", "10.0.0.3");
        later.deadline = Some(NOW + 20);
        let pods = [me(), leaving, later];
        let peers = |now: i64| choose(&pods, 0, &own(), 9050, now).unwrap();
        for begin in [NOW, NOW + 41, NOW + 51] {
            let until = same_until(&pods, begin);
            assert_eq!(peers(begin), peers(until.min(NOW + 1_000_000)), "{begin}");
            assert!(until == i64::MAX || peers(begin) != peers(until + 1), "{begin}");
        }
        assert_eq!(same_until(&pods, NOW + 51), i64::MAX);
    }

    #[test]
    fn a_successor_takes_the_place_of_a_terminating_pod() {
        let mut leaving = pod("old", "node-a", "10.0.0.2");
        leaving.deadline = Some(NOW - 500);
        let mut next = pod("next", "node-a", "10.0.0.3");
        next.ready = false;
        assert_eq!(instances(&chosen(&[me(), leaving.clone(), next.clone()])), ["next"]);
        next.phase = PodPhase::Pending;
        next.ips.clear();
        let set = chosen(&[me(), leaving, next]);
        assert!(set.is_empty(), "a pending successor shows that the node lives");
        assert_eq!((set.pods.pending, set.pods.terminating), (1, 1));
    }

    #[test]
    fn pods_that_cannot_be_probed_are_counted_by_state() {
        let mut pending = pod("a", "node-a", "10.0.0.2");
        pending.phase = PodPhase::Pending;
        let mut unscheduled = pod("b", "node-b", "10.0.0.3");
        unscheduled.node = None;
        let mut bare = pod("c", "node-c", "10.0.0.4");
        bare.ips.clear();
        let mut ended = pod("d", "node-d", "10.0.0.5");
        ended.phase = PodPhase::Ended;
        let set = chosen(&[me(), pending, unscheduled, bare, ended]);
        let expected = PodCounts { own: 1, pending: 2, no_ip: 1, terminating: 1, peer: 0 };
        assert_eq!(set.pods, expected);
        assert!(set.is_empty());
    }

    #[test]
    fn a_list_that_cannot_be_ours_is_refused() {
        let refused = |pods: &[Pod], malformed| {
            choose(pods, malformed, &own(), 9050, NOW).unwrap_err().reason().as_str()
        };
        assert_eq!(refused(&[], 0), "empty");
        assert_eq!(refused(&[], 1), "without_self");
        assert_eq!(refused(&[pod("a", "node-a", "10.0.0.2")], 0), "without_self");
        let many = |count: usize| {
            let names = (0..count).map(|n| pod(&format!("u{n}"), &format!("n{n}"), "10.0.0.2"));
            names.chain([me()]).collect::<Vec<_>>()
        };
        assert_eq!(refused(&many(MAX_PEERS + 1), 0), "too_large");
        assert_eq!(chosen(&many(MAX_PEERS)).len(), MAX_PEERS);
    }

    fn any_pod() -> impl Strategy<Value = Pod> {
        let deadline = proptest::option::of(-200_i64..200);
        (0_u32..40, 0_u32..6, 0_u8..3, deadline, any::<bool>(), any::<bool>(), 0_i64..100).prop_map(
            |(uid, node, phase, deadline, ready, bare, age)| {
                let mut pod = pod(&format!("u{uid}"), &format!("n{node}"), "10.1.1.1");
                pod.phase = match phase {
                    0 => PodPhase::Pending,
                    1 => PodPhase::Ended,
                    _ => PodPhase::Running,
                };
                pod.deadline = deadline.map(|late| NOW + late);
                (pod.ready, pod.created) = (ready, NOW - age);
                if bare {
                    pod.ips.clear();
                }
                pod
            },
        )
    }

    proptest! {
        #[test]
        fn every_pod_counts_once_and_the_order_does_not_matter(
            mut pods in proptest::collection::vec(any_pod(), 0..60),
        ) {
            pods.dedup_by_key(|pod| pod.uid.clone());
            pods.push(me());
            let set = chosen(&pods);
            let counts = set.pods;
            let sum = counts.peer + counts.own + counts.pending + counts.no_ip + counts.terminating;
            prop_assert_eq!(sum, pods.len() as u64);
            prop_assert_eq!(counts.peer, set.len() as u64);
            pods.reverse();
            let reversed = chosen(&pods);
            prop_assert_eq!(reversed.pods, counts);
            let nodes = |set: &PeerSet| set.iter().map(|p| p.node.clone()).collect::<Vec<_>>();
            prop_assert_eq!(nodes(&reversed), nodes(&set));
        }
    }
}
