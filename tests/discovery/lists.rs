//! Pod lists: the request, and the peers in the response.

use std::net::IpAddr;
use std::process::Command;
use std::time::SystemTime;

use wylis::discovery::{AddressRule, PeerSource as _};
use wylis::name::NodeName;
use wylis_harness::api::{Behaviour, LABEL, NAMESPACE, TestPod, uid_of};
use wylis_harness::pki::Validity;
use wylis_harness::wait_until;

use crate::fixture::{Fixture, PATIENCE, PEER_PORT, listed};

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

#[test]
fn peers_are_found_with_their_addresses_instances_and_readiness() {
    let fixture = Fixture::new("127.62.1.1");
    fixture.server.pods().edit("wylis-b", |pod| {
        pod.ips.push("fd00:1::3".to_owned());
        pod.ready = false;
    });
    let set = listed(&mut fixture.source());
    assert_eq!((set.pods.peer, set.pods.own), (2, 1));
    let b = set.get(&NodeName::new("node-b").unwrap()).unwrap();
    assert_eq!(b.address, format!("10.1.0.3:{PEER_PORT}").parse().unwrap());
    assert_eq!(b.other_addresses, ["fd00:1::3".parse::<IpAddr>().unwrap()]);
    assert_eq!(b.instance.as_ref().unwrap().as_str(), uid_of("wylis-b"));
    assert_eq!(b.ready, Some(false));
}

#[test]
fn the_request_is_the_one_that_the_role_permits() {
    let fixture = Fixture::new("127.62.2.1");
    listed(&mut fixture.source());
    let request = fixture.server.log().pop().unwrap();
    assert_eq!(request.method, "GET");
    assert!(request.target.starts_with("/api/v1/namespaces/wylis/pods?"), "{}", request.target);
    assert_eq!(request.query("labelSelector").unwrap(), format!("{}={}", LABEL.0, LABEL.1));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(request.header("accept-encoding"), None, "no unsupported encoding");
    assert!(request.header("user-agent").unwrap().starts_with("wylis/"));
}

#[test]
fn the_version_is_repeated_until_the_server_refuses_it() {
    let fixture = Fixture::new("127.62.3.1");
    let mut source = fixture.source();
    let mut assert_version = |expected: &str| {
        let seen = fixture.server.requests();
        let _ = source.list(SystemTime::now());
        let request = &fixture.server.log()[seen];
        assert_eq!(request.query("resourceVersion").as_deref(), Some(expected));
        let matching = (expected != "0").then_some("NotOlderThan");
        assert_eq!(request.query("resourceVersionMatch").as_deref(), matching);
    };
    let version = || fixture.server.pods().version().to_string();
    assert_version("0");
    let first = version();
    fixture.server.pods().set_ready("wylis-a", false);
    assert_version(&first);
    let second = version();
    // Another failure does not drop the version.
    fixture.server.next(1, &Behaviour::status(500));
    assert_version(&second);
    fixture.server.next(1, &Behaviour::status(410));
    assert_version(&second);
    assert_version("0");
    fixture.server.next(1, &Behaviour::status(400));
    assert_version(&second);
    assert_version("0");
    // After a restore of etcd the server answers 504 until the version is dropped.
    fixture.server.pods().set_version(5);
    assert_version(&second);
    assert_version("0");
    assert_version("5");
}

#[test]
fn only_pods_of_the_namespace_selector_and_daemon_set_are_peers() {
    let fixture = Fixture::new("127.62.4.1");
    let pod = |name: &str| TestPod::new(name, &format!("node-{name}"), "10.1.9.9");
    let mut elsewhere = pod("elsewhere");
    elsewhere.namespace = "other".to_owned();
    let mut unlabelled = pod("unlabelled");
    unlabelled.labels.clear();
    let mut foreign = pod("foreign");
    foreign.owner = Some("da000000-0000-4000-8000-000000000001".to_owned());
    let mut orphan = pod("orphan");
    orphan.owner = None;
    for pod in [elsewhere, unlabelled, foreign, orphan] {
        fixture.server.pods().put(pod);
    }
    assert_eq!(listed(&mut fixture.source()).len(), 2);
}

#[test]
fn two_pods_on_a_node_in_a_rolling_update_are_one_peer() {
    let fixture = Fixture::new("127.62.5.1");
    let mut source = fixture.source();
    let mut peer = || {
        let set = listed(&mut source);
        let instance = set.get(&NodeName::new("node-a").unwrap())?.instance.clone()?;
        Some(instance.to_string())
    };
    let pods = fixture.server.pods();
    pods.terminate("wylis-a", now() + 30);
    assert_eq!(peer(), None, "a terminating pod is no peer");
    let mut next = TestPod::new("wylis-a2", "node-a", "10.1.0.22");
    (next.created, next.ready, next.phase) = (now(), false, "Pending".to_owned());
    next.ips.clear();
    pods.put(next);
    assert_eq!(peer(), None, "nor is a pending pod");
    pods.edit("wylis-a2", |pod| {
        pod.phase = "Running".to_owned();
        pod.ips = vec!["10.1.0.22".to_owned()];
    });
    assert_eq!(peer(), Some(uid_of("wylis-a2")));
    pods.edit("wylis-a", |pod| pod.deleted = None);
    assert_eq!(peer(), Some(uid_of("wylis-a")), "the ready one of two");
    pods.set_ready("wylis-a2", true);
    assert_eq!(peer(), Some(uid_of("wylis-a2")), "the newest of two ready ones");
}

#[test]
fn a_deletion_is_overdue_by_the_clock_of_the_server() {
    let fixture = Fixture::new("127.62.16.1");
    let peers = || listed(&mut fixture.source()).len();
    // The server is two hours ahead, as seen from a board without a clock.
    fixture.server.set_clock_ahead(std::time::Duration::from_secs(7200));
    fixture.server.pods().terminate("wylis-a", now() + 7210);
    assert_eq!(peers(), 1, "terminating, before its deadline");
    fixture.server.pods().terminate("wylis-a", now() + 7100);
    assert_eq!(peers(), 2, "overdue, although not by the local clock");
}

#[test]
fn a_terminating_pod_of_a_dead_node_stays_a_peer() {
    let fixture = Fixture::new("127.62.6.1");
    fixture.server.pods().terminate("wylis-a", now() - 120);
    fixture.server.pods().set_ready("wylis-a", false);
    let set = listed(&mut fixture.source());
    let dead = set.get(&NodeName::new("node-a").unwrap()).unwrap();
    assert_eq!((set.len(), dead.ready), (2, Some(false)));
}

#[test]
fn one_malformed_item_costs_itself_and_one_warning() {
    let mut fixture = Fixture::new("127.62.7.1");
    let text = "{\"metadata\":{\"name\":\"evil\\nname\",\"uid\":[1,{\"a\":2}]},\"spec\":7}";
    fixture.server.pods().put_raw(NAMESPACE, "evil", &[LABEL], text);
    fixture.run_to_first_list();
    let seen = fixture.running().count();
    wait_until(PATIENCE, "three more lists", || fixture.running().count() >= seen + 3);
    fixture.server.pods().remove("evil");
    wait_until(PATIENCE, "its end is logged", || {
        fixture.running().log().iter().any(|line| line.contains("no more malformed items"))
    });
    let log = fixture.running().log();
    let warnings: Vec<_> = log.iter().filter(|line| line.starts_with("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{log:#?}");
    assert!(warnings[0].contains("\"evil\\nname\" (metadata.uid has the wrong type)"), "{log:#?}");
}

#[test]
fn as_many_peers_as_the_agent_holds_are_read() {
    let mut fixture = Fixture::new("127.62.8.1");
    // A debug build takes one or two seconds, more on a busy machine.
    fixture.settings.deadline = PATIENCE;
    for number in 0..2498_u32 {
        let ip = format!("10.2.{}.{}", number / 250, number % 250 + 1);
        fixture.server.pods().put(TestPod::new(&format!("w{number}"), &format!("n{number}"), &ip));
    }
    assert_eq!(listed(&mut fixture.source()).len(), 2500);
    assert!(fixture.server.bytes_sent() > 10 << 20, "{}", fixture.server.bytes_sent());
}

#[test]
fn an_ipv6_api_server_is_reached() {
    for host in ["::1", "[::1]"] {
        let mut fixture = Fixture::new("::1");
        fixture.settings.host = host.to_owned();
        assert_eq!(listed(&mut fixture.source()).len(), 2);
    }
}

#[test]
fn an_api_server_is_reached_by_its_name() {
    let mut fixture = Fixture::with_certificate("127.0.0.1", &["localhost"], Validity::Now);
    fixture.settings.host = "localhost".to_owned();
    assert_eq!(listed(&mut fixture.source()).len(), 2);
}

#[test]
fn the_address_of_a_named_api_server_is_no_peer() {
    let mut fixture = Fixture::with_certificate("127.0.0.1", &["localhost"], Validity::Now);
    fixture.settings.host = "localhost".to_owned();
    let (listen, api_port) = ("127.62.18.1:9050".parse().unwrap(), fixture.settings.port);
    fixture.server.pods().put(TestPod::new("evil", "victim", "127.0.0.1"));
    fixture.server.pods().put(TestPod::new("other", "node-c", "127.0.0.2"));
    // At another port, the pod is an agent with the address of the API server's node.
    for (port, bad_addresses) in [(api_port, 1), (PEER_PORT, 0)] {
        fixture.settings.peer_port = port;
        fixture.settings.rule = AddressRule::pods(Some(listen), ("localhost", api_port), port);
        let set = listed(&mut fixture.source());
        assert_eq!(set.pods.bad_address, bad_addresses, "{port}");
        assert_eq!(set.get(&NodeName::new("victim").unwrap()).is_some(), bad_addresses == 0);
        assert!(set.get(&NodeName::new("node-c").unwrap()).is_some());
    }
}

#[test]
fn proxies_in_the_environment_are_ignored() {
    const CHILD: &str = "WYLIS_TEST_PROXY_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let fixture = Fixture::new("127.62.9.2");
        assert_eq!(listed(&mut fixture.source()).len(), 2);
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "lists::proxies_in_the_environment_are_ignored"]).env(CHILD, "1");
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    {
        // Nothing listens there.
        child.env(name, "http://127.62.9.1:9");
    }
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
fn no_pod_status_aims_probes_at_this_host_its_link_or_a_metadata_service() {
    let mut fixture = Fixture::new("127.62.17.1");
    let own = fixture.settings.host.clone();
    let aimed = [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "0.0.0.0",
        "::",
        &own,
    ];
    for (number, ip) in aimed.iter().enumerate() {
        let pod = TestPod::new(&format!("evil-{number}"), &format!("victim-{number}"), ip);
        fixture.server.pods().put(pod);
    }
    fixture.settings.rule = AddressRule::pods(None, (&own, fixture.settings.port), PEER_PORT);
    fixture.run();
    fixture.running().await_outcome(0, "ok");
    assert_eq!(fixture.running().nodes(), ["node-a", "node-b"]);
    assert_eq!(fixture.running().set().unwrap().pods.bad_address, aimed.len() as u64);
    fixture.server.pods().set_ready("wylis-a", false);
    wait_until(PATIENCE, "a second list of the pods", || {
        let set = fixture.running().set().unwrap();
        set.iter().any(|peer| peer.ready == Some(false))
    });
    let log = fixture.running().log();
    let warnings: Vec<_> = log.iter().filter(|line| line.starts_with("WARN")).collect();
    let expected = "discovery: 15 pods with an address that is not probed, for example 127.0.0.1 of \
                    node \"victim-0\" (loopback), ";
    assert!(warnings.len() == 1 && warnings[0].contains(expected), "{log:#?}");
}
