//! What two agents in network namespaces say of a path that fails in one direction, and of their own network.

use std::time::Duration;

use wylis_harness::netns::Namespace;
use wylis_harness::process::{Agent, Settings};
use wylis_harness::{TempDir, wait_until};

use super::binary;

/// Longest wait: far above 40 slots, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `n1` and `n2`, each in a namespace, joined by a cable.
struct Pair {
    agents: [Agent; 2],
    namespaces: [Namespace; 2],
    _dir: TempDir,
}

impl Pair {
    /// Starts both, and waits until they are up and have proven themselves to each other.
    fn start(label: &str) -> Option<Self> {
        let dir = TempDir::new(label);
        let namespaces =
            [Namespace::new(&format!("{label}1"))?, Namespace::new(&format!("{label}2"))?];
        let [first, second] = &namespaces;
        first.ip(&format!("link add eth0 type veth peer name eth0 netns {}\n", second.name()));
        let start = |at: usize| {
            let (own, other) = (at + 1, 2 - at);
            namespaces[at].ip(&format!("addr add 198.18.0.{own}/24 dev eth0\nlink set eth0 up\n"));
            let environment = [
                ("WYLIS_NODE_NAME", format!("n{own}")),
                ("WYLIS_LISTEN", "0.0.0.0:9050".to_owned()),
                ("WYLIS_PEERS", format!("n{other}=198.18.0.{other}:9050")),
                ("WYLIS_INTERVAL", "500ms".to_owned()),
                ("WYLIS_TIMEOUT", "2s".to_owned()),
            ];
            Agent::start_in(
                &namespaces[at],
                &Settings {
                    binary: binary(),
                    environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
                    address: "127.0.0.1:9050".parse().unwrap(),
                    log: dir.path().join(format!("n{own}.log")),
                },
            )
        };
        let agents = [start(0), start(1)];
        let pair = Self { agents, namespaces, _dir: dir };
        for at in [0, 1] {
            pair.await_peer(at, "up", |peer| {
                peer["verdict"] == "up" && peer["incoming_requests"].as_u64() > Some(5)
            });
        }
        Some(pair)
    }

    /// What the agent at this index says of the other one.
    fn peer(&self, at: usize) -> serde_json::Value {
        self.agents[at].peer(&format!("n{}", 2 - at))
    }

    fn await_peer(&self, at: usize, what: &str, condition: impl Fn(&serde_json::Value) -> bool) {
        wait_until(PATIENCE, &format!("n{} says {what}", at + 1), || condition(&self.peer(at)));
    }

    /// Loads a chain for incoming packets.
    fn rules(&self, at: usize, rules: &str) {
        self.namespaces[at].nft(&format!(
            "table ip t {{\n set seen {{ type inet_service; flags dynamic; size 4096; }}\n chain in {{\n \
             type filter hook input priority 0;\n {rules}\n }}\n}}\n"
        ));
    }
}

#[test]
fn the_loss_of_answers_shows_at_the_end_that_sends_them() {
    let Some(pair) = Pair::start("answers") else { return };
    // Three of ten connections lose the first packet with the answer.
    pair.rules(
        0,
        "tcp sport 9050 meta length > 100 tcp dport != @seen add @seen { tcp dport } \
         numgen inc mod 10 < 3 drop",
    );
    pair.await_peer(1, "lossy", |peer| peer["verdict"] == "lossy");
    let (probed, answered) = (pair.peer(0), pair.peer(1));
    assert!(answered["incoming_retransmits"].as_u64() >= Some(2), "{answered}");
    assert_eq!((&probed["verdict"], &probed["retransmits"]), (&"up".into(), &0.into()), "{probed}");
    let metrics = pair.agents[1].metrics();
    let counted = metrics.sum("wylis_incoming_retransmits_total", &["source_node=\"n1\""]);
    assert!(counted >= 2.0, "{counted}");
    assert_eq!(pair.agents[0].metrics().count("wylis_incoming_retransmits_total", &[]), 0);
}

#[test]
fn what_comes_in_is_told_for_a_refused_peer_too() {
    let Some(pair) = Pair::start("incoming") else { return };
    let refuse = "tcp dport 9050 tcp flags & (syn | ack) == syn reject with tcp reset";
    pair.rules(1, refuse);
    pair.await_peer(0, "requests arrive", |peer| {
        peer["reason"] == "refused" && peer["incoming"] == "requests"
    });
    pair.rules(1, &format!("{refuse}\n tcp sport 9050 drop"));
    pair.await_peer(0, "SYNs arrive", |peer| peer["incoming"] == "syns");
    pair.rules(0, "tcp dport 9050 ip saddr 198.18.0.2 drop");
    pair.await_peer(0, "nothing arrives", |peer| {
        peer["reason"] == "refused" && peer["incoming"] == "nothing"
    });
    let series = ["kind=\"nothing\"", "target_node=\"n2\""];
    assert_eq!(pair.agents[0].metrics().get("wylis_peer_incoming", &series), Some(1.0));
    for at in [0, 1] {
        pair.namespaces[at].nft("delete table ip t\n");
    }
    pair.await_peer(0, "up", |peer| peer["verdict"] == "up" && peer["incoming"].is_null());
    for words in ["is down, but its requests arrive", "is down, but its SYNs arrive"] {
        wait_until(PATIENCE, words, || pair.agents[0].log().contains(words));
    }
}

#[test]
fn an_interface_that_is_down_changes_no_verdict_of_its_own_agent() {
    let Some(pair) = Pair::start("interface") else { return };
    pair.namespaces[0].ip("link set eth0 down\n");
    let no_route =
        || pair.agents[0].metrics().sum("wylis_local_errors_total", &["reason=\"no_route\""]);
    // Longer than three intervals and 5 s, after which a silent peer is one-way.
    wait_until(PATIENCE, "local errors", || no_route() >= 20.0);
    let peer = pair.peer(0);
    assert_eq!(peer["verdict"], "up", "{peer}");
    assert!(peer["failures"].as_u64() <= Some(1), "the one in flight: {peer}");
    assert!(peer["failures_by_reason"]["unreachable"].is_null(), "{peer}");
    pair.await_peer(1, "down", |peer| peer["verdict"] == "down");
    pair.namespaces[0].ip("link set eth0 up\n");
    pair.await_peer(1, "up", |peer| peer["verdict"] == "up");
    // The other agent may reach this one before its own next probe.
    wait_until(PATIENCE, "routes again", || {
        pair.agents[0].log().contains("there are routes to peers again")
    });
    let log = pair.agents[0].log();
    assert_eq!(log.matches("no route to any peer").count(), 1, "{log}");
}
