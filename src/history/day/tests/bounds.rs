//! The most that a day takes, and what others may do to it.

use wylis_harness::bounds::worst_case;

use super::night::name;
use super::*;
use crate::history::{CellTime, Run};

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// One time, and a run for each of these nodes, all of which are down.
fn all_down(nodes: &[String], time: CellTime) -> Faults {
    let mut nodes: Vec<NodeName> = nodes.iter().map(|node| name(node)).collect();
    nodes.sort();
    let octet = down(FailureReason::Refused).octet();
    let run = |path| Run { path, first: 0, count: 1, failures: 1, probes: 1, octet };
    let runs = (0..u16::try_from(nodes.len()).unwrap()).map(run).collect();
    Faults { at: 0, times: vec![time], nodes, runs, left_out: 0 }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number:04}")).collect()
}

const NOW: CellTime = CellTime { from: T0, seconds: 300, is_repeated: false };

#[test]
fn findings_beyond_their_bound_are_left_out_oldest_first() {
    let mut night = Night::new(&NODES);
    let ways = [Direction::Both, Direction::Incoming, Direction::Outgoing];
    let words = FailureReason::ALL.into_iter().flat_map(|reason| [down(reason), flaky(reason)]);
    let words: Vec<Word> = words.chain(ways.map(|way| Word::of(Verdict::Mtu(way)))).collect();
    let pairs = ["ab", "ba", "cd", "dc", "ac", "ca", "bd", "db", "ad", "da", "bc", "cb"];
    // Two pairs with each pair of words, in turn: no finding comes more than five times.
    for place in 0..288_u64 {
        let turn = usize::try_from(place).unwrap();
        for (half, offset) in [(0, 0), (1, 5)] {
            let pair = pairs[(turn + half * 2) % pairs.len()];
            let word = words[(turn / 7 + offset) % words.len()];
            let time = [place * 300, place * 300 + 300];
            night.says_at(&pair[..1], &pair[1..], time, Some(word));
        }
    }
    let day = day_of(&night, "a");
    let all = day.findings.len() + day.left_out;
    assert!(day.left_out > 0 && day.findings.len() == MAX_DAY_FINDINGS, "{all}");
    assert!(number(day.findings.len()) <= worst_case("MAX_DAY_FINDINGS"));
    assert!(day.findings.is_sorted_by_key(|finding| (finding.from, finding.kind)));
    assert!(day.findings[0].from > T0);
    assert_eq!(day.findings.last().unwrap().to, T0 + DAY);
}

#[test]
fn pairs_beyond_the_bound_of_a_mesh_are_too_large() {
    let nodes = names("n", 419);
    let mut mesh = MeshFaults::new(&name("n0000"), all_down(&nodes, NOW));
    for node in &nodes[1..] {
        mesh.add(&name(node), Ok(all_down(&nodes, NOW)));
    }
    let refused = mesh.missing();
    let too_large = |node| (name(node), RowError::TooLarge);
    assert_eq!(refused, ["n0417", "n0418"].map(too_large));
    let pairs = Day::of(&mesh, now(), &mut || false).bins[0].pairs;
    assert!(f64::from(pairs) <= worst_case("MAX_PAIRS") && pairs > 174_000, "{pairs}");
    // What replaces another counts once.
    mesh.add(&name("n0001"), Err(RowError::Busy));
    mesh.add(&name("n0418"), Ok(all_down(&nodes, NOW)));
    assert_eq!(mesh.missing(), [(name("n0001"), RowError::Busy), too_large("n0417")]);
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(T0 + 100)
}

#[test]
fn names_that_others_invent_are_few() {
    let own = names("n", 10);
    let mut mesh = MeshFaults::new(&name("n0000"), all_down(&own[1..], NOW));
    for node in &own[1..] {
        mesh.add(&name(node), Ok(all_down(&names(node, 1000), NOW)));
    }
    let day = Day::of(&mesh, now(), &mut || true);
    // Twice the own names and a few.
    assert_eq!(day.bins[0].pairs, 9 + 84 - 10);
    assert_eq!(day.missing, []);
}

#[test]
fn times_without_sense_do_no_harm() {
    let own = names("n", 3);
    for (from, seconds) in [
        (0, 1),
        (0, u32::MAX),
        (T0 - 1, 1),
        (T0 + 300, 300),
        (u64::MAX, u32::MAX),
        (T0, 0),
        (T0 - 90_000, 86_400 * 2),
    ] {
        let time = CellTime { from, seconds, is_repeated: true };
        let mut mesh = MeshFaults::new(&name("n0000"), all_down(&own[1..], NOW));
        mesh.add(&name("n0001"), Ok(all_down(&own[..1], time)));
        let day = Day::of(&mesh, now(), &mut || true);
        assert!(day.bins.len() <= 288 && day.bins.is_sorted_by_key(|bin| bin.from));
        let is_known = time.from <= T0 && time.to() > T0;
        assert_eq!(day.bins.last().unwrap().pairs, 2 + u32::from(is_known), "{time:?}");
    }
    // A clock that is at the beginning of time.
    let mesh = MeshFaults::new(&name("n0000"), all_down(&own[1..], NOW));
    let day = Day::of(&mesh, SystemTime::UNIX_EPOCH, &mut || true);
    assert_eq!((day.at, day.since, day.bins.len(), day.findings.len()), (0, None, 0, 0));
}

#[test]
fn a_node_that_told_a_part_is_named() {
    let own = names("n", 3);
    let mut mesh = MeshFaults::new(&name("n0000"), all_down(&own[1..], NOW));
    let part = Faults { left_out: 1, ..all_down(&own[..1], NOW) };
    mesh.add(&name("n0001"), Ok(part));
    let day = Day::of(&mesh, now(), &mut || true);
    assert_eq!(day.missing, [(name("n0001"), RowError::TooLarge)]);
}

#[test]
fn nodes_that_reach_another_come_first() {
    let mut night = Night::new(&NODES);
    night.says("b", "d", "23:50", "23:59", down(FailureReason::Refused));
    night.says("c", "d", "23:00", "23:55", down(FailureReason::Refused));
    night.empty("a", "d", "00:00", "23:59");
    let mesh = night.mesh("a");
    let reaching = |node: &str| {
        let all = mesh.reaching(&name(node)).into_iter();
        all.map(|(rank, name)| format!("{rank}{}", name.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(reaching("d"), ["0c", "1a", "1b"]);
    assert_eq!(reaching("a"), ["0b", "0c", "0d"]);
    assert_eq!(reaching("e"), [""; 0]);
}
