//! Selects the peers among the pods: the pods of this DaemonSet, one for each node. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::discovery::address::AddressRule;
use crate::discovery::error::DiscoveryError;
use crate::name::{Instance, NodeName};
use crate::peer::{MAX_PEERS, Peer, PeerSet, PodCounts};

/// Most pods of a list: a rolling update shows at most two on each node.
pub(super) const MAX_PODS: usize = 2 * MAX_PEERS;
/// Seconds from its deadline until a terminating pod counts as abandoned by a dead node: a live
/// kubelet removes a pod within seconds of its deadline.
const ABANDONED_AFTER: i64 = 30;

/// Why a pod is no peer although it runs, beside the classes of addresses.
const OTHER_FAMILY: &str = "of an address family that this pod lacks";
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
    /// The address of its node.
    pub(super) host: Option<IpAddr>,
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

/// Applies the criteria, once the own pod is found.
struct Selector<'a> {
    criteria: &'a Criteria<'a>,
    /// The own pod. It has no address if the list does not show one.
    own_pod: &'a Pod,
}

impl Selector<'_> {
    /// The address at which a pod is probed: the first one of a family that the own pod has, or why there is
    /// none. `None` without any address.
    fn address(&self, pod: &Pod) -> Option<Result<SocketAddr, (IpAddr, &'static str)>> {
        let is_v4 = |ip: &IpAddr| ip.to_canonical().is_ipv4();
        let own_ips = &self.own_pod.ips;
        let is_common =
            |ip: &&IpAddr| own_ips.is_empty() || own_ips.iter().any(|own| is_v4(own) == is_v4(ip));
        let primary = *pod.ips.first()?;
        let Some(ip) = pod.ips.iter().copied().find(|ip| is_common(&ip)) else {
            return Some(Err((primary, OTHER_FAMILY)));
        };
        let address = SocketAddr::new(ip, self.criteria.port);
        let refusal = self.criteria.rule.refusal(address);
        Some(refusal.map_or(Ok(address), |class| Err((ip, class.as_str()))))
    }

    /// The host behind a pod: not this agent's own, and none where the pod has its host's address, so that
    /// probes reach the host anyway.
    fn host(&self, pod: &Pod) -> Option<IpAddr> {
        let is_other = |host: &IpAddr| Some(*host) != self.own_pod.host && !pod.ips.contains(host);
        pod.host.filter(is_other).filter(|host| self.criteria.rule.allows_host(*host))
    }

    fn standing(&self, pod: &Pod) -> Standing {
        if pod.phase == PodPhase::Ended {
            return Standing::Terminating;
        }
        let refused = matches!(self.address(pod), Some(Err(_)));
        if let Some(deadline) = pod.deadline {
            let overdue = self.criteria.now.saturating_sub(deadline) > ABANDONED_AFTER;
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
        let node = pod.node.as_ref()?;
        let (ip, reason) = self.address(pod)?.err()?;
        Some(format!("{ip} of node {node:?} ({reason})"))
    }

    fn peer(&self, node: &NodeName, pod: &Pod) -> Option<Peer> {
        let Criteria { rule, port, .. } = self.criteria;
        let is_probed = |ip: &IpAddr| rule.refusal(SocketAddr::new(*ip, *port)).is_none();
        let address = self.address(pod)?.ok()?;
        let others = pod.ips.iter().copied().filter(|ip| *ip != address.ip());
        Some(Peer {
            node: node.clone(),
            address,
            other_addresses: others.filter(is_probed).collect(),
            host: self.host(pod),
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
    let selector = Selector { criteria, own_pod };
    let siblings = pods.iter().filter(|pod| is_sibling(own_pod, pod));
    let (mut counts, mut refused) = (PodCounts::default(), Vec::new());
    let mut best: BTreeMap<&NodeName, &Pod> = BTreeMap::new();
    for pod in siblings {
        if pod.uid == own_pod.uid || pod.node.as_ref() == Some(&own.node) {
            counts.own += 1;
            continue;
        }
        match selector.standing(pod) {
            Standing::Pending => counts.pending += 1,
            Standing::NoIp => counts.no_ip += 1,
            Standing::BadAddress => {
                counts.bad_address += 1;
                if refused.len() < MAX_EXAMPLES {
                    refused.extend(selector.example(pod));
                }
            }
            // Corrected below for those that become peers.
            _ => counts.terminating += 1,
        }
        let Some(node) = &pod.node else { continue };
        let best = best.entry(node).or_insert(pod);
        if selector.rank(best) < selector.rank(pod) {
            *best = pod;
        }
    }
    let is_peer =
        |pod: &Pod| matches!(selector.standing(pod), Standing::Candidate | Standing::Abandoned);
    let peers = best.into_iter().filter(|(_, pod)| is_peer(pod));
    let mut set: PeerSet = peers.filter_map(|(node, pod)| selector.peer(node, pod)).collect();
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
mod tests;
