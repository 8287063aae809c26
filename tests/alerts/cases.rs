//! The alerts that fire in each situation; no other alert may fire.

use std::collections::{BTreeMap, BTreeSet};

use crate::promtool::{is_installed, run};
use crate::recording::folder;
use crate::rules;

/// A firing alert.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fires {
    pub(crate) alert: &'static str,
    pub(crate) nodes: &'static [(&'static str, &'static str)],
}

/// A situation.
#[derive(Debug)]
pub(crate) struct Case {
    /// A file of recordings/.
    pub(crate) recording: &'static str,
    /// The nodes whose agents Prometheus scrapes; empty: all.
    pub(crate) seen_from: &'static [&'static str],
    /// Milliseconds added to every round-trip time.
    pub(crate) added_rtt: u32,
    /// All alerts that ever fire; each fires just before `until`.
    pub(crate) fires: &'static [Fires],
    /// A mark of the recording.
    pub(crate) until: &'static str,
    /// All alerts that fire at the end of the recording.
    pub(crate) afterwards: &'static [Fires],
}

impl Case {
    pub(crate) fn name(&self) -> String {
        let from = self.seen_from.join(" and ");
        if self.added_rtt > 0 {
            format!("{} and {} ms more RTT", self.recording, self.added_rtt)
        } else if from.is_empty() {
            self.recording.to_owned()
        } else {
            format!("{} seen from {from}", self.recording)
        }
    }
}

const fn node(alert: &'static str, nodes: &'static [(&'static str, &'static str); 1]) -> Fires {
    Fires { alert, nodes }
}

const fn pair(alert: &'static str, nodes: &'static [(&'static str, &'static str); 2]) -> Fires {
    Fires { alert, nodes }
}

const fn alone(alert: &'static str) -> Fires {
    Fires { alert, nodes: &[] }
}

const ALL: &[&str] = &[];
const N1_TO_N2: &[(&str, &str); 2] = &[("source_node", "n1"), ("target_node", "n2")];
const N2_TO_N1: &[(&str, &str); 2] = &[("source_node", "n2"), ("target_node", "n1")];
const FROM_N1: &[(&str, &str); 1] = &[("source_node", "n1")];
const FROM_N2: &[(&str, &str); 1] = &[("source_node", "n2")];
const FROM_N3: &[(&str, &str); 1] = &[("source_node", "n3")];
const TO_N1: &[(&str, &str); 1] = &[("target_node", "n1")];
const TO_N2: &[(&str, &str); 1] = &[("target_node", "n2")];
const TO_N4: &[(&str, &str); 1] = &[("target_node", "n4")];

const DOOR_NOT_HELD: &[Fires] = &[
    pair("WylisDoorNotHeld", N1_TO_N2),
    pair("WylisDoorNotHeld", N2_TO_N1),
    pair("WylisDoorNotHeld", &[("source_node", "n1"), ("target_node", "n3")]),
    pair("WylisDoorNotHeld", &[("source_node", "n3"), ("target_node", "n1")]),
];

const fn during(
    recording: &'static str,
    seen_from: &'static [&'static str],
    fires: &'static [Fires],
) -> Case {
    Case { recording, seen_from, fires, added_rtt: 0, until: "cure", afterwards: &[] }
}

const fn always(
    recording: &'static str,
    seen_from: &'static [&'static str],
    fires: &'static [Fires],
) -> Case {
    Case { recording, seen_from, fires, added_rtt: 0, until: "end", afterwards: fires }
}

const CASES: &[Case] = &[
    // No fault.
    always("healthy", ALL, &[]),
    always("single_node", ALL, &[]),
    always("rolling_update", ALL, &[]),
    always("node_deleted", ALL, &[]),
    always("pod_deleted", ALL, &[]),
    always("prometheus_restarted", ALL, &[]),
    // Over before an alert is due.
    always("agent_restarted", ALL, &[]),
    always("api_server_restarted", ALL, &[]),
    // A node is down: one alert, from any agents' view.
    during("node_killed", ALL, &[node("WylisNodeDown", TO_N4)]),
    during("node_switched_off", ALL, &[node("WylisNodeDown", TO_N4)]),
    during("tunnel_frozen", ALL, &[node("WylisNodeDown", TO_N2)]),
    // Unscraped agents are missing, but not while nothing reaches them.
    Case {
        recording: "tunnel_frozen",
        seen_from: &["n2"],
        added_rtt: 0,
        fires: &[node("WylisNodeCutOff", FROM_N2)],
        until: "cure",
        afterwards: &[
            node("WylisAgentMissing", TO_N1),
            node("WylisAgentMissing", &[("target_node", "n3")]),
            node("WylisAgentMissing", TO_N4),
        ],
    },
    // An agent that is down most of the time counts as a node down. No loss alert.
    during("agent_crashing", ALL, &[node("WylisNodeDown", TO_N4)]),
    // With two nodes, a dead node and a broken path look alike.
    during("two_nodes_one_killed", ALL, &[pair("WylisPairDown", N1_TO_N2)]),
    // Paths.
    during(
        "pair_black_holed",
        ALL,
        &[pair("WylisPairDown", N1_TO_N2), pair("WylisPairDown", N2_TO_N1)],
    ),
    during(
        "prometheus_restarted_in_an_outage",
        ALL,
        &[pair("WylisPairDown", N1_TO_N2), pair("WylisPairDown", N2_TO_N1)],
    ),
    during("firewall_one_way", ALL, &[pair("WylisPairDown", N1_TO_N2)]),
    Case {
        recording: "firewall_one_way",
        seen_from: &["n2", "n3"],
        added_rtt: 0,
        fires: &[pair("WylisPairOneWay", N2_TO_N1), node("WylisAgentMissing", TO_N1)],
        until: "cure",
        afterwards: &[node("WylisAgentMissing", TO_N1)],
    },
    during("peer_missing_in_one_list", ALL, &[pair("WylisPairOneWay", N1_TO_N2)]),
    during("half_refused", ALL, &[pair("WylisPairFlaky", N1_TO_N2)]),
    during("lossy", ALL, &[pair("WylisPairLossy", N1_TO_N2)]),
    during(
        "lossy_and_flapping",
        ALL,
        &[pair("WylisPairLossy", N1_TO_N2), pair("WylisPairLossy", N2_TO_N1)],
    ),
    during("mtu", ALL, &[pair("WylisPairMtu", N1_TO_N2), pair("WylisPairMtu", N2_TO_N1)]),
    // Both ends of each pair of the suspended agent.
    always("door_not_held", ALL, DOOR_NOT_HELD),
    // Agents.
    always("healthy", &["n1", "n3"], &[node("WylisAgentMissing", TO_N2)]),
    during("agent_pending", ALL, &[alone("WylisAgentPending")]),
    always("agent_not_probing", ALL, &[node("WylisAgentNotProbing", FROM_N3)]),
    always("uninstalled", ALL, &[alone("WylisAgentsAbsent")]),
    during(
        "api_server_away",
        ALL,
        &[
            node("WylisPeerListStale", FROM_N1),
            node("WylisPeerListStale", FROM_N2),
            node("WylisPeerListStale", FROM_N3),
        ],
    ),
    // It cannot probe, and reports the reason.
    during(
        "ports_used_up",
        ALL,
        &[
            node("WylisAgentNotProbing", FROM_N2),
            node("WylisLocalErrors", FROM_N2),
            node("WylisPeerListStale", FROM_N2),
        ],
    ),
    // A link of one node: its pairs in both directions, and no others.
    during(
        "slow",
        ALL,
        &[
            pair("WylisPairSlow", N1_TO_N2),
            pair("WylisPairSlow", N2_TO_N1),
            pair("WylisPairSlow", &[("source_node", "n2"), ("target_node", "n3")]),
            pair("WylisPairSlow", &[("source_node", "n3"), ("target_node", "n2")]),
        ],
    ),
    // 200 ms more on top of 300 ms is less than double.
    Case { added_rtt: 300, ..always("slow", ALL, &[]) },
];

#[test]
fn in_each_situation_exactly_these_alerts_fire() {
    if !is_installed("promtool") {
        return;
    }
    // promtool uses one core each.
    let failures: Vec<String> = std::thread::scope(|scope| {
        let parts = CASES.chunks(CASES.len().div_ceil(4)).map(|cases| {
            scope.spawn(|| cases.iter().filter_map(|case| run(case).err()).collect::<Vec<_>>())
        });
        let parts: Vec<_> = parts.collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), CASES.len(), failures.join("\n"));
}

#[test]
fn every_alert_fires_somewhere_and_is_silent_elsewhere_and_every_recording_is_used() {
    let mut firing: BTreeMap<String, usize> = BTreeMap::new();
    for case in CASES {
        let names: BTreeSet<&str> = case.fires.iter().map(|fires| fires.alert).collect();
        for name in names {
            *firing.entry(name.to_owned()).or_default() += 1;
        }
    }
    let mut count = (0, 0);
    for alert in rules::alerts() {
        let name = alert["alert"].as_str().unwrap();
        let fires = firing.remove(name).unwrap_or(0);
        let silent = CASES.len() - fires;
        println!("{name}: fires in {fires} situations, silent in {silent}");
        assert!(fires > 0 && silent > 0, "{name}");
        count = (count.0 + fires, count.1 + silent);
    }
    println!("{} situations: {} firings and {} silences", CASES.len(), count.0, count.1);
    assert!(firing.is_empty(), "no such alerts: {firing:?}");
    let used: BTreeSet<String> = CASES.iter().map(|case| case.recording.to_owned()).collect();
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let recordings: BTreeSet<String> =
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(used, recordings);
    let documented = format!("in {} situations", recordings.len());
    assert!(wylis_harness::documentation().contains(&documented), "not documented: {documented}");
}

#[test]
fn a_case_that_expects_too_much_or_too_little_fails() {
    if !is_installed("promtool") {
        return;
    }
    const WRONG: [&[Fires]; 4] = [
        &[],
        &[pair("WylisPairDown", N1_TO_N2)],
        &[pair("WylisPairDown", N1_TO_N2), pair("WylisPairLossy", N2_TO_N1)],
        &[
            pair("WylisPairDown", N1_TO_N2),
            pair("WylisPairDown", N2_TO_N1),
            node("WylisNodeDown", TO_N2),
        ],
    ];
    for fires in WRONG {
        let case = during("pair_black_holed", ALL, fires);
        let output = run(&case).expect_err("a wrong case");
        assert!(output.contains("exp:") && !output.contains("err:"), "{fires:?}: {output}");
    }
}
