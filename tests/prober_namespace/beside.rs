//! Experiments beside the probes: the host behind a peer, and the same flows again. Two namespaces on one link, as
//! in [`crate::Link`]; the experiments are made in the first one.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use wylis::experiment::DeadFlows;
use wylis::prober::{FlowTrial, hosts_answer, repeat_flows, try_flows};
use wylis_harness::netns::Namespace;

use crate::{Link, PEER_V4, PEER_V6, print};

impl Link {
    /// Makes an experiment at the prober's end.
    fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        Namespace::entrance_of(&self.prober).within(action)
    }

    fn host_answers(&self, address: &str) -> Option<bool> {
        let address: SocketAddr = address.parse().unwrap();
        self.within(|| hosts_answer(&[address]))[0]
    }

    fn reject(&self, with: &str) {
        self.rules(&format!(
            "table inet t {{
               chain c {{ type filter hook input priority filter;
                 tcp dport 9050 {with}
               }}
             }}\n"
        ));
    }

    fn accept(&self) {
        self.rules("delete table inet t\n");
    }

    /// Drops the connections whose source port meets this condition.
    fn drop_flows(&self, condition: &str) {
        self.reject(&format!("{condition} drop"));
    }
}

#[test]
fn a_reset_a_connection_or_an_icmp_error_of_the_host_itself_is_life() {
    let Some(mut link) = Link::new() else { return };
    for target in [PEER_V4, PEER_V6] {
        assert_eq!(link.host_answers(target), Some(true), "a closed port of {target}");
    }
    for (with, target, answers) in [
        ("reject with icmp type port-unreachable", PEER_V4, true),
        ("reject with icmp type host-unreachable", PEER_V4, true),
        ("reject with icmp type admin-prohibited", PEER_V4, true),
        ("reject with icmp type net-prohibited", PEER_V4, true),
        ("reject with icmp type prot-unreachable", PEER_V4, true),
        ("reject with icmpv6 type port-unreachable", PEER_V6, true),
        ("reject with icmpv6 type addr-unreachable", PEER_V6, true),
        ("reject with icmpv6 type admin-prohibited", PEER_V6, true),
        ("reject with icmpv6 type no-route", PEER_V6, true),
        ("drop", PEER_V4, false),
        ("drop", PEER_V6, false),
    ] {
        link.reject(with);
        assert_eq!(link.host_answers(target), Some(answers), "{with}");
        link.accept();
    }
    link = link.serve();
    for target in [PEER_V4, PEER_V6] {
        assert_eq!(link.host_answers(target), Some(true), "an open port of {target}");
    }
}

#[test]
fn an_icmp_error_of_another_host_is_no_life() {
    let Some(link) = Link::new() else { return };
    // The peer is the router to them: it rejects in its own name.
    let (router, prober) = (&link.peer, &link.prober);
    for line in ["addr add 198.18.1.1/24 dev lo", "addr add fd00:19::1/64 dev lo nodad"] {
        crate::run(&format!("ip -n {router} {line}"));
    }
    crate::run(&format!("ip -n {prober} route add 198.18.1.0/24 via 198.18.0.2"));
    crate::run(&format!("ip -n {prober} route add fd00:19::/64 via fd00:18::2"));
    let forward = "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1";
    crate::run(&format!("ip netns exec {router} {forward}"));
    for (with, target) in [
        ("reject with icmp type port-unreachable", "198.18.1.9:9050"),
        ("reject with icmp type host-unreachable", "198.18.1.9:9050"),
        ("reject with icmp type admin-prohibited", "198.18.1.9:9050"),
        ("reject with icmpv6 type port-unreachable", "[fd00:19::9]:9050"),
        ("reject with icmpv6 type addr-unreachable", "[fd00:19::9]:9050"),
    ] {
        link.rules(&format!(
            "table inet t {{
               chain c {{ type filter hook prerouting priority filter;
                 tcp dport 9050 {with}
               }}
             }}\n"
        ));
        assert_eq!(link.host_answers(target), Some(false), "{with}");
        link.accept();
    }
    assert_eq!(link.host_answers("198.18.0.77:9050"), Some(false), "no host on the link");
    assert_eq!(link.host_answers("198.19.0.1:9050"), None, "no route: not asked");
}

#[test]
fn a_question_to_a_host_costs_a_syn_and_a_reset() {
    let Some(link) = Link::new() else { return };
    link.rules(
        "table inet t {
           counter asked { }
           chain i { type filter hook prerouting priority filter; tcp dport 9050 counter name asked
           }
           chain o { type filter hook postrouting priority filter; tcp sport 9050 counter name asked
           }
         }\n",
    );
    assert_eq!(link.host_answers(PEER_V4), Some(true));
    let text = crate::run(&format!("ip netns exec {} nft list counter inet t asked", link.peer));
    // In docs/sizing.md.
    assert!(text.contains("packets 2 bytes 100"), "{text}");
}

#[test]
fn many_hosts_are_asked_at_once() {
    let Some(link) = Link::new() else { return };
    link.rules(
        "table inet t {
           chain c { type filter hook prerouting priority filter; ip daddr 198.18.2.0/24 drop
           }
         }\n",
    );
    crate::run(&format!("ip -n {} route add 198.18.2.0/24 via 198.18.0.2", link.prober));
    let silent = (1..32).map(|number| SocketAddr::from(([198, 18, 2, number], 9050)));
    let all: Vec<SocketAddr> = silent.chain([PEER_V4.parse().unwrap()]).collect();
    let began = std::time::Instant::now();
    let answers = link.within(|| hosts_answer(&all));
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    let expected = [vec![Some(false); 31], vec![Some(true)]].concat();
    // A busy machine may be late, and then tells nothing.
    let told =
        |found: &Vec<Option<bool>>| found.iter().zip(&expected).all(|(a, b)| a.is_none() || a == b);
    assert!(told(&answers) && answers[31] == Some(true), "{answers:?}");
}

/// The kernel chooses even ports for connections: of these, one in `of` is dropped.
fn one_of(of: u16) -> String {
    format!("tcp sport & {} == 0", 2 * of - 1)
}

/// A link to a peer, on which the kernel has 16 even ports to choose.
fn with_16_ports() -> Option<Link> {
    let link = Link::new().map(Link::serve)?;
    let range = || std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40031");
    link.within(range).unwrap();
    Some(link)
}

#[test]
fn flows_that_never_get_through_are_found_and_counted() {
    let address: SocketAddr = PEER_V4.parse().unwrap();
    let repeated = |of: u16| {
        let link = with_16_ports()?;
        link.drop_flows(&one_of(of));
        let found = || link.within(|| repeat_flows(address, &[50_000, 50_001], &[50_003, 50_005]));
        // A busy machine spoils the control, so that nothing is proven.
        (0..4).find_map(|_| found()).or_else(|| panic!("never proven"))
    };
    let tried = |of: u16| {
        let link = with_16_ports()?;
        link.drop_flows(&one_of(of));
        let trial = || link.within(|| try_flows(address, 16));
        let proven = || Some(trial()).filter(|trial| trial.dead.is_some() && trial.errors == 0);
        (0..4).find_map(|_| proven()).or_else(|| panic!("never proven"))
    };
    let (half, quarter, trial) = std::thread::scope(|scope| {
        let all =
            (scope.spawn(|| repeated(2)), scope.spawn(|| repeated(4)), scope.spawn(|| tried(8)));
        (all.0.join().unwrap(), all.1.join().unwrap(), all.2.join().unwrap())
    });
    let (Some(half), Some(quarter), Some(trial)) = (half, quarter, trial) else { return };
    assert_eq!(half, DeadFlows { dead: 8, flows: 16 });
    assert_eq!(quarter, DeadFlows { dead: 4, flows: 16 });
    let sorted = |ports: &[u16]| ports.iter().copied().collect::<BTreeSet<_>>();
    let dead = BTreeSet::from([40_000, 40_016]);
    assert_eq!((trial.tried, trial.errors, sorted(&trial.failed)), (16, 0, dead.clone()));
    assert_eq!(sorted(&trial.dead.unwrap()), dead);
}

#[test]
fn nothing_is_proven_without_a_flow_that_failed_before_or_a_control() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    let address: SocketAddr = PEER_V4.parse().unwrap();
    let repeated =
        |failed: &[u16], passed: &[u16]| link.within(|| repeat_flows(address, failed, passed));
    assert_eq!(repeated(&[40_000], &[40_001]), None, "it passes now");
    link.drop_flows(&one_of(4));
    assert_eq!(repeated(&[40_002, 40_004], &[40_001]), None, "they pass now");
    assert_eq!(repeated(&[40_000], &[40_008]), None, "the control fails as well");
    assert_eq!(repeated(&[40_000], &[]), None, "no control");
    link.accept();
    link.drop_flows("tcp sport 40000-40008");
    assert_eq!(repeated(&[40_000], &[40_009]), None, "no fresh flow is dead");
    link.accept();
    link.reject("");
    let trial = link.within(|| try_flows(address, 16));
    assert_eq!((trial.failed, trial.dead), (vec![], Some(vec![])));
}

#[test]
fn a_limit_of_connections_a_second_accuses_no_flow() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    let address: SocketAddr = PEER_V4.parse().unwrap();
    // Enough for four connections at once, as in the control.
    link.reject("tcp flags syn limit rate over 10/second burst 4 packets drop");
    let trial = link.within(|| try_flows(address, 64));
    assert!(trial.failed.len() >= 4, "{trial:?}");
    assert!(trial.dead.as_ref().is_none_or(Vec::is_empty), "{trial:?}");
}

#[test]
fn loss_at_random_accuses_no_flow() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    let address: SocketAddr = PEER_V4.parse().unwrap();
    // In each direction.
    link.rules(
        "table inet t {
           chain i { type filter hook input priority filter; numgen random mod 100 < 30 drop
           }
           chain o { type filter hook output priority filter; numgen random mod 100 < 30 drop
           }
         }\n",
    );
    let entrance = Namespace::entrance_of(&link.prober);
    // Side by side, with ports of their own.
    let trials: Vec<_> = std::thread::scope(|scope| {
        let trial = |number: u16| {
            let entrance = entrance.clone();
            scope.spawn(move || {
                let first = 20_000 + 100 * number;
                let failed: Vec<u16> = (first..first + 4).collect();
                let passed: Vec<u16> = (first + 10..first + 14).collect();
                let found = entrance.within(|| repeat_flows(address, &failed, &passed));
                (found, entrance.within(|| try_flows(address, 16)))
            })
        };
        let all: Vec<_> = (0..30).map(trial).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let failures: usize = trials.iter().map(|(_, trial)| trial.failed.len()).sum();
    let unproven = trials.iter().filter(|(_, trial)| trial.dead.is_none()).count();
    let accused = |trial: &FlowTrial| trial.dead.as_ref().is_some_and(|dead| !dead.is_empty());
    let accusing = trials.iter().filter(|(_, trial)| accused(trial)).count();
    print(&format!("of 30: {failures} first failures, {unproven} unproven, {accusing} accusing"));
    assert!(failures >= 10 && trials.iter().all(|(found, _)| found.is_none()), "{trials:?}");
    // Without flows that failed before, it is one in a thousand.
    assert!(accusing <= 1, "{trials:?}");
}
