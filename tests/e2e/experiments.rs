//! Experiments, once each: a survey, the host behind a peer, the largest packet of a path.

use std::time::Duration;

use wylis::document::read_survey;
use wylis::survey::{Coldness, State};

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::observe;

/// Many times what a verdict or a survey of short gaps needs.
const PATIENCE: Duration = Duration::from_secs(180);
/// Two of the default interval, and what a busy machine needs.
const AFTERWARDS: Duration = Duration::from_secs(25);
/// Longer than the default interval, so that only a survey explains such a silence.
const GAP: Duration = Duration::from_secs(13);

/// What a command of the agent's binary prints in a pod. Its exit code may tell of a fault.
pub(crate) fn wylis(cluster: &Cluster, pod: &Pod, arguments: &[&str]) -> String {
    let exec = ["-n", NAMESPACE, "exec", &pod.name, "--", "/wylis"];
    let output = cluster.output(&[&exec[..], arguments].concat());
    let printed = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&printed).into_owned()
}

#[test]
fn a_survey_finds_a_path_warm_and_counts_nothing() {
    let Some(cluster) = Cluster::find() else { return };
    let pods = cluster.with_agents();
    let mut counters = observe::begin(&cluster, &pods);
    let arguments = ["survey", "--to", &pods[1].node, "--gaps", "13s", "--yes"];
    let mut started = String::new();
    // Agents prove themselves to each other within three probes.
    cluster.wait(PATIENCE, "a survey begins", || {
        started = wylis(&cluster, &pods[0], &arguments);
        started.contains("the survey has begun")
    });
    let mut status = None;
    let done = observe::until(
        &mut counters,
        &cluster,
        PATIENCE,
        || pods.clone(),
        |_| {
            let text = cluster.page(&pods[0], "/api/v1/survey").unwrap_or_default();
            status = read_survey(text.as_bytes()).ok().map(|(_, status)| status);
            status.as_ref().is_some_and(|status| status.state != State::Running)
        },
    );
    assert!(done, "the survey does not end: {started}");
    let status = status.unwrap();
    let shown = wylis(&cluster, &pods[0], &["survey"]);
    println!("{shown}");
    assert_eq!((status.state, status.results.len()), (State::Done, 1), "{started}\n{shown}");
    let result = status.results[0].result;
    for found in [result.outgoing, result.incoming] {
        assert!(matches!(found, Coldness::WarmAt(gap) if gap >= GAP), "{found:?}");
    }
    let before = counters.successes.clone();
    let again = observe::until(&mut counters, &cluster, AFTERWARDS, || pods.clone(), |_| false);
    assert!(!again && counters.failures == 0, "{:#?}", counters.failed);
    for (pair, successes) in &counters.successes {
        assert!(*successes > before.get(pair).copied().unwrap_or(0), "{pair:?} is not probed");
    }
}

/// A rule on a node; removed when dropped.
pub(crate) struct Rule<'a> {
    cluster: &'a Cluster,
    node: String,
}

impl<'a> Rule<'a> {
    /// Drops what the node forwards and what matches.
    pub(crate) fn put(cluster: &'a Cluster, node: &str, matching: &str) -> Self {
        let chain = "type filter hook forward priority filter; policy accept;";
        let rules =
            format!("table inet fault {{\n chain path {{\n {chain}\n {matching} drop\n }}\n}}");
        cluster.script(&["in", node, "nft", &rules]);
        Self { cluster, node: node.to_owned() }
    }
}

impl Drop for Rule<'_> {
    fn drop(&mut self) {
        self.cluster.script(&["in", &self.node, "nft", "delete table inet fault"]);
    }
}

#[test]
fn the_host_of_a_drained_node_answers_while_its_pod_network_does_not() {
    let Some(cluster) = Cluster::local() else { return };
    let pods = cluster.with_agents();
    let (drained, others) = pods.split_last().unwrap();
    cluster.kubectl(&["drain", &drained.node, "--ignore-daemonsets", "--timeout=60s"]);
    let rule = Rule::put(&cluster, &drained.node, "tcp dport 9050");
    let reports = |pod: &Pod| {
        let peer = cluster.peer(pod, &drained.node);
        peer["verdict"] == "down" && peer["host"]["state"] == "answers"
    };
    cluster.wait(PATIENCE, "the node is down, its host answers", || others.iter().all(reports));
    println!("{}", wylis(&cluster, &others[0], &["cluster"]));
    drop(rule);
    cluster.kubectl(&["uncordon", &drained.node]);
    let up = |pod: &Pod| cluster.peer(pod, &drained.node)["verdict"] == "up";
    cluster.wait(PATIENCE, "the node is up again", || others.iter().all(up));
}

#[test]
fn the_largest_packet_of_a_path_is_found() {
    let Some(cluster) = Cluster::local() else { return };
    let pods = cluster.with_agents();
    let (source, target) = (&pods[0], &pods[1]);
    // A packet that the pod may send, and the path does not carry.
    let matching = format!("ip saddr {} meta length > 1337", target.ip);
    let rule = Rule::put(&cluster, &target.node, &matching);
    let found = wylis(&cluster, source, &["probe", &format!("{}:9050", target.ip), "--mtu"]);
    println!("{found}");
    assert!(found.contains("largest packet from it: 1,337 bytes"), "{found}");
    assert!(found.contains("largest packet to it: at least "), "{found}");
    drop(rule);
}
