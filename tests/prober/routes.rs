//! Missing routes, in network namespaces: whose fault they are.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use wylis::name::{Instance, NodeName};
use wylis::probe::{FailureReason, LocalError, Outcome, Priority, Report};
use wylis::prober::{Prober, Settings};
use wylis_harness::netns::Namespace;

use crate::peer::{PATIENCE, blank};

const UNREACHABLE: Outcome = Outcome::Failure(FailureReason::Unreachable);
const NO_ROUTE: Outcome = Outcome::Local(LocalError::NoRoute);
const NEAR: [&str; 2] = ["198.18.0.2:9050", "[fd00:18::2]:9050"];
const FAR: [&str; 2] = ["203.0.113.5:9050", "[fd00:19::5]:9050"];

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A namespace with an interface, a route to [`NEAR`] and none to [`FAR`].
fn network(label: &str) -> Option<Namespace> {
    let namespace = Namespace::new(label)?;
    namespace.ip("link add eth0 type veth peer name other\nlink set eth0 up\nlink set other up\n\
         addr add 198.18.0.1/24 dev eth0\naddr add fd00:18::1/64 dev eth0 nodad\n");
    Some(namespace)
}

/// The outcome of a probe of `target` by an agent that has these peers.
fn probe(namespace: &Namespace, target: &str, peers: &[&str]) -> Outcome {
    namespace.entrance().within(|| {
        let settings = Settings {
            node: NodeName::new("me").unwrap(),
            instance: Instance::new("i").unwrap(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_millis(500),
            listen_port: 9050,
        };
        let (sender, reports) = channel();
        let prober = Prober::new(settings, move |report: Report| drop(sender.send(report)));
        prober.set_peers(&peers.iter().map(|peer| address(peer)).collect::<Vec<_>>());
        prober.submit(blank(1, address(target), Priority::Healthy));
        reports.recv_timeout(PATIENCE).unwrap().outcome
    })
}

#[test]
fn a_route_that_is_missing_to_one_peer_of_several_makes_it_unreachable() {
    let Some(namespace) = network("one") else { return };
    for (near, far) in NEAR.into_iter().zip(FAR) {
        assert_eq!(probe(&namespace, far, &[near, far]), UNREACHABLE, "{far}");
        assert_eq!(probe(&namespace, far, &[]), UNREACHABLE, "{far}, and no peers are known");
    }
}

#[test]
fn without_a_route_to_any_peer_the_fault_is_local() {
    let Some(namespace) = network("none") else { return };
    for far in FAR {
        assert_eq!(probe(&namespace, far, &FAR), NO_ROUTE, "{far}");
    }
    namespace.ip("link set eth0 down\n");
    for target in NEAR.into_iter().chain(FAR) {
        assert_eq!(probe(&namespace, target, &[NEAR, FAR].concat()), NO_ROUTE, "{target}");
    }
    namespace.ip("link set eth0 up\n");
    assert_eq!(probe(&namespace, FAR[0], &[NEAR, FAR].concat()), UNREACHABLE, "it is up again");
}

#[test]
fn a_route_that_refuses_one_peer_is_no_missing_one() {
    let Some(namespace) = network("blackhole") else { return };
    namespace.ip("route add blackhole 203.0.113.5\nroute add unreachable 203.0.113.6\n");
    for target in [FAR[0], "203.0.113.6:9050"] {
        assert_eq!(probe(&namespace, target, &[target]), UNREACHABLE, "{target}");
    }
}
