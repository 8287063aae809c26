//! Selects the peers among the pods: the pods of this DaemonSet, one for each node. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::discovery::address::{AddressClass, AddressRule};
use crate::discovery::error::DiscoveryError;
use crate::name::{Instance, NodeName};
use crate::peer::{MAX_PEERS, Peer, PeerSet, PodCounts};

/// Most pods of a list: a rolling update shows at most two on each node.
pub(super) const MAX_PODS: usize = 2 * MAX_PEERS;
/// Seconds from its deadline until a terminating pod counts as abandoned by a dead node: a live
/// kubelet removes a pod within seconds of its deadline.
const ABANDONED_AFTER: i64 = 30;

/// Pods with an address that is not probed that the log shows.
const MAX_EXAMPLES: usize = 3;

/// Identity of this agent, to find its own pod in a list.
#[derive(Debug, Clone)]
pub struct Own {
    /// The node.
    pub node: NodeName,
    /// The pod's name, if known.
    pub pod_name: Option<String>,
    /// The pod's UID, if known.
    pub pod_uid: Option<Instance>,
}

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodPhase {
    /// `Pending`, or not set yet.
    Pending,
    /// `Running`, and `Unknown`, which old releases set for pods of an unreachable node.
    Running,
    /// `Succeeded` or `Failed`: it never runs again.
    Ended,
}

/// The fields of a pod that discovery uses.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) uid: Instance,
    /// Whether it has the name of this agent's pod.
    pub(super) has_own_name: bool,
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

/// How well a pod suits as its node's peer. The greatest of a node decides: a pod that is about to run
/// shows that the node is alive, so that none of its pods counts as abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Being deleted, or ended.
    Terminating,
    /// Still terminating [`ABANDONED_AFTER`] its deadline: its node is probably dead.
    Abandoned,
    NoIp,
    /// Its address is not probed.
    BadAddress,
    Pending,
    /// Scheduled and started, with an address.
    Candidate,
}

/// What the peers among the pods are selected by.
pub(super) struct Criteria<'a> {
    pub(super) own: &'a Own,
    /// The port of the peers.
    pub(super) port: u16,
    pub(super) rule: &'a AddressRule,
    /// Seconds since 1970.
    pub(super) now: i64,
}

impl Criteria<'_> {
    /// Why the primary address of a pod is not probed.
    fn refusal(&self, pod: &Pod) -> Option<AddressClass> {
        let primary = pod.ips.first()?;
        self.rule.refusal(SocketAddr::new(*primary, self.port))
    }

    fn standing(&self, pod: &Pod) -> Standing {
        if pod.phase == PodPhase::Ended {
            return Standing::Terminating;
        }
        let refused = self.refusal(pod).is_some();
        if let Some(deadline) = pod.deadline {
            let overdue = self.now.saturating_sub(deadline) > ABANDONED_AFTER;
            let reachable = pod.node.is_some() && !pod.ips.is_empty() && !refused;
            return if overdue && reachable { Standing::Abandoned } else { Standing::Terminating };
        }
        if pod.node.is_none() || pod.phase == PodPhase::Pending {
            Standing::Pending
        } else if pod.ips.is_empty() {
            Standing::NoIp
        } else if refused {
            Standing::BadAddress
        } else {
            Standing::Candidate
        }
    }

    /// The greatest of a node is its peer: ready, then newest. The UID makes the order total.
    fn rank<'a>(&self, pod: &'a Pod) -> (Standing, bool, i64, &'a Instance) {
        (self.standing(pod), pod.ready, pod.created, &pod.uid)
    }

    /// Why the address of a pod is not probed, for the log.
    fn example(&self, pod: &Pod) -> Option<String> {
        let (node, ip) = (pod.node.as_ref()?, pod.ips.first()?);
        Some(format!("{ip} of node {node:?} ({})", self.refusal(pod)?))
    }

    fn peer(&self, node: &NodeName, pod: &Pod) -> Option<Peer> {
        let is_probed = |ip: IpAddr| self.rule.refusal(SocketAddr::new(ip, self.port)).is_none();
        let (primary, others) = pod.ips.split_first()?;
        Some(Peer {
            node: node.clone(),
            address: SocketAddr::new(*primary, self.port),
            other_addresses: others.iter().copied().filter(|ip| is_probed(*ip)).collect(),
            instance: Some(pod.uid.clone()),
            ready: Some(pod.ready),
        })
    }
}

/// Until when the same pods yield the same peers, in seconds since 1970: the first terminating pod then
/// becomes abandoned.
pub(super) fn same_until(pods: &[Pod], now: i64) -> i64 {
    let deadlines = pods.iter().filter_map(|pod| pod.deadline);
    let abandoned = deadlines.map(|deadline| deadline.saturating_add(ABANDONED_AFTER));
    abandoned.filter(|time| *time >= now).min().unwrap_or(i64::MAX)
}

/// Selects the peers among the pods of one list. Also returns the first pods whose addresses are not
/// probed, for the log.
///
/// # Errors
/// When the list is empty, lacks this agent's own pod, or has too many peers.
pub(super) fn select(
    pods: &[Pod],
    malformed: usize,
    criteria: &Criteria<'_>,
) -> Result<(PeerSet, Vec<String>), DiscoveryError> {
    if pods.is_empty() && malformed == 0 {
        return Err(DiscoveryError::Empty);
    }
    let own = criteria.own;
    let own_pod = find_own(pods, own).ok_or(DiscoveryError::WithoutSelf)?;
    let siblings = pods.iter().filter(|pod| is_sibling(own_pod, pod));
    let (mut counts, mut refused) = (PodCounts::default(), Vec::new());
    let mut best: BTreeMap<&NodeName, &Pod> = BTreeMap::new();
    for pod in siblings {
        if pod.uid == own_pod.uid || pod.node.as_ref() == Some(&own.node) {
            counts.own += 1;
            continue;
        }
        match criteria.standing(pod) {
            Standing::Pending => counts.pending += 1,
            Standing::NoIp => counts.no_ip += 1,
            Standing::BadAddress => {
                counts.bad_address += 1;
                if refused.len() < MAX_EXAMPLES {
                    refused.extend(criteria.example(pod));
                }
            }
            // Corrected below for those that become peers.
            _ => counts.terminating += 1,
        }
        let Some(node) = &pod.node else { continue };
        let best = best.entry(node).or_insert(pod);
        if criteria.rank(best) < criteria.rank(pod) {
            *best = pod;
        }
    }
    let is_peer =
        |pod: &Pod| matches!(criteria.standing(pod), Standing::Candidate | Standing::Abandoned);
    let peers = best.into_iter().filter(|(_, pod)| is_peer(pod));
    let mut set: PeerSet = peers.filter_map(|(node, pod)| criteria.peer(node, pod)).collect();
    if set.len() > MAX_PEERS {
        return Err(DiscoveryError::TooLarge { bound: "2,500 peers" });
    }
    counts.peer = set.pods.peer;
    counts.terminating = counts.terminating.saturating_sub(counts.peer);
    set.pods = counts;
    Ok((set, refused))
}

/// Whether a pod is of this agent's DaemonSet. Without a controller the label selector alone decides.
fn is_sibling(own: &Pod, pod: &Pod) -> bool {
    own.controller.is_none() || pod.controller == own.controller
}

/// Finds this agent's pod by UID if known, else by name if known, else as the newest on the node. The
/// best of these must match: a list without the own pod is out of date, or another DaemonSet's.
fn find_own<'a>(pods: &'a [Pod], own: &Own) -> Option<&'a Pod> {
    match (&own.pod_uid, &own.pod_name) {
        (Some(uid), _) => pods.iter().find(|pod| pod.uid == *uid),
        (None, Some(_)) => pods.iter().find(|pod| pod.has_own_name),
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
            has_own_name: false,
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

    /// What an agent selects that listens on all addresses.
    fn select_at(
        now: i64,
        pods: &[Pod],
        malformed: usize,
    ) -> Result<(PeerSet, Vec<String>), DiscoveryError> {
        let (own, rule) = (own(), AddressRule::pods(None, ("10.96.0.1", 9050), 9050));
        select(pods, malformed, &Criteria { own: &own, port: 9050, rule: &rule, now })
    }

    fn selected(pods: &[Pod]) -> PeerSet {
        select_at(NOW, pods, 0).unwrap().0
    }

    fn instances(set: &PeerSet) -> Vec<&str> {
        set.iter().filter_map(|peer| peer.instance.as_ref().map(Instance::as_str)).collect()
    }

    #[test]
    fn a_peer_is_a_pod_of_the_same_daemon_set_on_another_node() {
        let mut dual = pod("a", "node-a", "10.0.0.2");
        dual.ips.push("fd00::2".parse().unwrap());
        let mut foreign = pod("b", "node-b", "10.0.0.3");
        foreign.controller = Some("other".into());
        let mut orphan = pod("c", "node-c", "10.0.0.4");
        orphan.controller = None;
        let own_node = pod("d", "me", "10.0.0.5");
        let set = selected(&[me(), dual, foreign, orphan, own_node]);
        assert_eq!(instances(&set), ["a"]);
        let peer = set.iter().next().unwrap();
        assert_eq!(peer.address, "10.0.0.2:9050".parse().unwrap());
        assert_eq!(peer.other_addresses, ["fd00::2".parse::<IpAddr>().unwrap()]);
        assert_eq!(set.pods, PodCounts { peer: 1, own: 2, ..PodCounts::default() });
    }

    #[test]
    fn without_a_controller_the_selector_decides() {
        let mut alone = me();
        alone.controller = None;
        assert_eq!(selected(&[alone, pod("a", "node-a", "10.0.0.2")]).len(), 1);
    }

    #[test]
    fn the_own_pod_is_found_by_the_best_known_identity_only() {
        let mut renamed = pod("x", "elsewhere", "10.0.0.9");
        renamed.has_own_name = true;
        renamed.controller = Some("by-name".into());
        let mut here = pod("y", "me", "10.0.0.8");
        here.controller = Some("by-node".into());
        let found =
            |pods: &[Pod], own: &Own| find_own(pods, own).map(|pod| pod.uid.as_str().to_owned());
        let named = Own { pod_uid: None, ..own() };
        let nameless = Own { pod_uid: None, pod_name: None, ..own() };
        let all = [here.clone(), renamed, me()];
        assert_eq!(found(&all, &own()).as_deref(), Some("uid-me"));
        assert_eq!(found(&all[..2], &own()), None, "an outdated list");
        assert_eq!(found(&all[..2], &named).as_deref(), Some("x"));
        assert_eq!(found(&[here.clone()], &named), None);
        assert_eq!(found(&[here], &nameless).as_deref(), Some("y"));
        assert_eq!(found(&[pod("a", "node-a", "10.0.0.2")], &nameless), None);
    }

    #[test]
    fn the_newest_ready_pod_of_a_node_is_its_peer_or_else_the_newest() {
        let mut old = pod("old", "node-a", "10.0.0.2");
        let mut new = pod("new", "node-a", "10.0.0.3");
        new.created += 60;
        assert_eq!(instances(&selected(&[me(), old.clone(), new.clone()])), ["new"]);
        new.ready = false;
        assert_eq!(instances(&selected(&[me(), new.clone(), old.clone()])), ["old"]);
        old.ready = false;
        let set = selected(&[me(), new, old]);
        assert_eq!(instances(&set), ["new"]);
        assert_eq!((set.pods.peer, set.pods.terminating), (1, 1));
    }

    #[test]
    fn a_terminating_pod_is_no_peer_until_it_is_abandoned() {
        let mut terminating = pod("a", "node-a", "10.0.0.2");
        for (late, peers) in [(-30, 0), (0, 0), (30, 0), (31, 1), (100_000, 1)] {
            terminating.deadline = Some(NOW - late);
            let set = selected(&[me(), terminating.clone()]);
            assert_eq!(set.len(), peers, "{late}");
            assert_eq!(set.pods.terminating, 1 - peers as u64, "{late}");
        }
    }

    #[test]
    fn the_same_pods_make_the_same_peers_until_one_is_abandoned() {
        let mut terminating = pod("a", "node-a", "10.0.0.2");
        terminating.deadline = Some(NOW + 10);
        let mut later = pod("b", "node-b", "10.0.0.3");
        later.deadline = Some(NOW + 20);
        let pods = [me(), terminating, later];
        let peers = |now: i64| select_at(now, &pods, 0).unwrap().0;
        for begin in [NOW, NOW + 41, NOW + 51] {
            let until = same_until(&pods, begin);
            assert_eq!(peers(begin), peers(until.min(NOW + 1_000_000)), "{begin}");
            assert!(until == i64::MAX || peers(begin) != peers(until + 1), "{begin}");
        }
        assert_eq!(same_until(&pods, NOW + 51), i64::MAX);
    }

    #[test]
    fn a_successor_replaces_a_terminating_pod() {
        let mut terminating = pod("old", "node-a", "10.0.0.2");
        terminating.deadline = Some(NOW - 500);
        let mut next = pod("next", "node-a", "10.0.0.3");
        next.ready = false;
        assert_eq!(instances(&selected(&[me(), terminating.clone(), next.clone()])), ["next"]);
        next.phase = PodPhase::Pending;
        next.ips.clear();
        let set = selected(&[me(), terminating, next]);
        assert!(set.is_empty(), "a pending successor shows that the node lives");
        assert_eq!((set.pods.pending, set.pods.terminating), (1, 1));
    }

    #[test]
    fn pods_without_a_peer_are_counted_by_state() {
        let mut pending = pod("a", "node-a", "10.0.0.2");
        pending.phase = PodPhase::Pending;
        let mut unscheduled = pod("b", "node-b", "10.0.0.3");
        unscheduled.node = None;
        let mut bare = pod("c", "node-c", "10.0.0.4");
        bare.ips.clear();
        let mut ended = pod("d", "node-d", "10.0.0.5");
        ended.phase = PodPhase::Ended;
        let set = selected(&[me(), pending, unscheduled, bare, ended]);
        let expected =
            PodCounts { own: 1, pending: 2, no_ip: 1, terminating: 1, ..PodCounts::default() };
        assert_eq!(set.pods, expected);
        assert!(set.is_empty());
    }

    #[test]
    fn a_pod_at_an_address_that_is_not_probed_is_counted_and_no_peer() {
        let at = |uid: &str, node: &str, ip: &str| pod(uid, node, ip);
        let mut foreign = at("f", "node-f", "127.0.0.1");
        foreign.controller = Some("other".into());
        let mut dual = at("c", "node-c", "10.0.0.4");
        dual.ips.extend(["127.0.0.1", "fd00::4"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        let mut newer = at("d2", "node-d", "169.254.169.254");
        newer.created += 60;
        let mut abandoned = at("e", "node-e", "10.96.0.1");
        abandoned.deadline = Some(NOW - 1000);
        let mut own = me();
        own.ips = vec!["127.0.0.1".parse().unwrap()];
        let pods = [
            own,
            foreign,
            at("a", "node-a", "::ffff:127.0.0.1"),
            at("b", "node-b", "224.0.0.1"),
            dual,
            at("d1", "node-d", "10.0.0.5"),
            newer,
            abandoned,
        ];
        let (set, refused) = select_at(NOW, &pods, 0).unwrap();
        let peers: Vec<_> = set.iter().map(|peer| peer.address.to_string()).collect();
        assert_eq!(peers, ["10.0.0.4:9050", "10.0.0.5:9050"], "the other pod of a node");
        let others = &set.iter().next().unwrap().other_addresses;
        assert_eq!(others, &["fd00::4".parse::<IpAddr>().unwrap()]);
        let expected =
            PodCounts { peer: 2, own: 1, bad_address: 3, terminating: 1, ..PodCounts::default() };
        assert_eq!(set.pods, expected);
        let expected = [
            "::ffff:127.0.0.1 of node \"node-a\" (loopback)",
            "224.0.0.1 of node \"node-b\" (multicast)",
            "169.254.169.254 of node \"node-d\" (link-local)",
        ];
        assert_eq!(refused, expected);
    }

    #[test]
    fn a_list_without_the_own_pod_or_with_too_many_peers_is_refused() {
        let refused = |pods: &[Pod], malformed| {
            select_at(NOW, pods, malformed).unwrap_err().reason().as_str()
        };
        assert_eq!(refused(&[], 0), "empty");
        assert_eq!(refused(&[], 1), "without_self");
        assert_eq!(refused(&[pod("a", "node-a", "10.0.0.2")], 0), "without_self");
        let many = |count: usize| {
            let names = (0..count).map(|n| pod(&format!("u{n}"), &format!("n{n}"), "10.0.0.2"));
            names.chain([me()]).collect::<Vec<_>>()
        };
        assert_eq!(refused(&many(MAX_PEERS + 1), 0), "too_large");
        assert_eq!(selected(&many(MAX_PEERS)).len(), MAX_PEERS);
    }

    fn any_pod() -> impl Strategy<Value = Pod> {
        let deadline = proptest::option::of(-200_i64..200);
        (0_u32..40, 0_u32..6, 0_u8..3, deadline, any::<bool>(), 0_u8..4, 0_i64..100).prop_map(
            |(uid, node, phase, deadline, ready, address, age)| {
                let ip = if address == 1 { "127.0.0.1" } else { "10.1.1.1" };
                let mut pod = pod(&format!("u{uid}"), &format!("n{node}"), ip);
                pod.phase = match phase {
                    0 => PodPhase::Pending,
                    1 => PodPhase::Ended,
                    _ => PodPhase::Running,
                };
                pod.deadline = deadline.map(|late| NOW + late);
                (pod.ready, pod.created) = (ready, NOW - age);
                if address == 0 {
                    pod.ips.clear();
                }
                pod
            },
        )
    }

    proptest! {
        #[test]
        fn every_pod_counts_once_in_any_order(
            mut pods in proptest::collection::vec(any_pod(), 0..60),
        ) {
            pods.dedup_by_key(|pod| pod.uid.clone());
            pods.push(me());
            let set = selected(&pods);
            let counts = set.pods;
            let PodCounts { peer, own, pending, no_ip, bad_address, terminating } = counts;
            let sum = peer + own + pending + no_ip + bad_address + terminating;
            prop_assert_eq!(sum, pods.len() as u64);
            prop_assert_eq!(counts.peer, set.len() as u64);
            pods.reverse();
            let reversed = selected(&pods);
            prop_assert_eq!(reversed.pods, counts);
            let nodes = |set: &PeerSet| set.iter().map(|p| p.node.clone()).collect::<Vec<_>>();
            prop_assert_eq!(nodes(&reversed), nodes(&set));
        }
    }
}
