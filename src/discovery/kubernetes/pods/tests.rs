//! Peers among the pods of a list.

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
        host: None,
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
fn a_peer_is_probed_at_its_first_address_of_a_family_that_the_own_pod_has() {
    let with = |mut pod: Pod, ips: &[&str]| {
        pod.ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        pod
    };
    let selected_by = |own: &[&str], ips: &[&str]| {
        let pods = [with(me(), own), with(pod("a", "node-a", "10.0.0.2"), ips)];
        let (set, refused) = select_at(NOW, &pods, 0).unwrap();
        let peer = set.iter().next().map(|peer| (peer.address, peer.other_addresses.clone()));
        (peer, set.pods.bad_address, refused)
    };
    let v4 = "10.0.0.2:9050".parse().unwrap();
    let v6 = "[fd00::2]:9050".parse().unwrap();
    let (others_v4, others_v6) =
        (vec!["10.0.0.2".parse().unwrap()], vec!["fd00::2".parse().unwrap()]);
    for (own, ips, probed) in [
        (&["10.0.0.1", "fd00::1"][..], &["fd00::2", "10.0.0.2"][..], (v6, others_v4.clone())),
        (&["10.0.0.1", "fd00::1"], &["10.0.0.2", "fd00::2"], (v4, others_v6.clone())),
        (&["10.0.0.1"], &["fd00::2", "10.0.0.2"], (v4, others_v6.clone())),
        (&["fd00::1"], &["10.0.0.2", "fd00::2"], (v6, others_v4)),
        (&["::ffff:10.0.0.1"], &["fd00::2", "10.0.0.2"], (v4, others_v6.clone())),
        (&[], &["fd00::2"], (v6, vec![])),
    ] {
        assert_eq!(selected_by(own, ips), (Some(probed), 0, vec![]), "{own:?} {ips:?}");
    }
    let none = "fd00::2 of node \"node-a\" (of an address family that this pod lacks)";
    assert_eq!(selected_by(&["10.0.0.1"], &["fd00::2"]), (None, 1, vec![none.to_owned()]));
    // The address of the own family is a metadata service's.
    let refused = selected_by(&["10.0.0.1"], &["fd00::2", "169.254.169.254"]);
    assert_eq!((refused.0, refused.1), (None, 1));
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
fn the_host_of_a_peer_is_another_one_that_its_pod_hides() {
    let selected_at = |own: Option<&str>, host: Option<&str>| {
        let [mut me, mut peer] = [me(), pod("a", "node-a", "10.0.0.2")];
        me.host = own.map(|ip| ip.parse().unwrap());
        peer.host = host.map(|ip| ip.parse().unwrap());
        selected(&[me, peer]).iter().next().unwrap().host.map(|ip| ip.to_string())
    };
    let other = Some("192.0.2.2");
    assert_eq!(selected_at(Some("192.0.2.1"), other).as_deref(), other);
    assert_eq!(selected_at(None, other).as_deref(), other);
    for (host, why) in [
        (None, "none"),
        (Some("192.0.2.1"), "the own"),
        (Some("10.0.0.2"), "the pod's own, as with host networking"),
        (Some("127.0.0.1"), "loopback"),
        (Some("169.254.169.254"), "a metadata service"),
        (Some("10.96.0.1"), "where the API server listens"),
    ] {
        assert_eq!(selected_at(Some("192.0.2.1"), host), None, "{why}");
    }
}

#[test]
fn a_list_without_the_own_pod_or_with_too_many_peers_is_refused() {
    let refused =
        |pods: &[Pod], malformed| select_at(NOW, pods, malformed).unwrap_err().reason().as_str();
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
