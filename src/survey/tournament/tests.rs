//! All pairs, once each.

use std::collections::{HashMap, HashSet};

use super::*;

fn names(count: usize) -> Vec<NodeName> {
    (0..count).map(|number| NodeName::new(&format!("n{number:03}")).unwrap()).collect()
}

#[test]
fn every_pair_meets_once_and_no_node_twice_in_a_round() {
    for count in 1..=41 {
        let nodes = names(count);
        let own = &nodes[count / 2];
        let tournament = Tournament::new(own, &Targets::Mesh, &nodes);
        let rounds = if count % 2 == 0 { count - 1 } else { count };
        assert_eq!((tournament.rounds(), tournament.pairs()), (rounds, count * (count - 1) / 2));
        let mut met = HashSet::new();
        let mut surveyors: HashMap<NodeName, usize> = HashMap::new();
        for number in 0..tournament.rounds() {
            let round = tournament.round(number);
            // No node waits where none must.
            assert_eq!(round.len(), count / 2, "{count} {number}");
            let mut busy = HashSet::new();
            for (source, target) in round {
                assert!(busy.insert(source.clone()) && busy.insert(target.clone()));
                *surveyors.entry(source.clone()).or_default() += 1;
                let pair = if source < target { (source, target) } else { (target, source) };
                assert!(met.insert(pair));
            }
        }
        assert_eq!(met.len(), tournament.pairs(), "{count}");
        let shares: Vec<usize> =
            nodes.iter().map(|node| surveyors.get(node).copied().unwrap_or(0)).collect();
        let half = (count - 1) / 2;
        assert!(
            shares.iter().all(|share| (half..=half + 1).contains(share)),
            "{count}: {shares:?}"
        );
        assert!(tournament.round(rounds).is_empty());
    }
}

#[test]
fn it_is_the_same_for_the_same_nodes_in_any_order() {
    let mut nodes = names(6);
    let own = nodes[3].clone();
    let rounds = |nodes: &[NodeName]| {
        let tournament = Tournament::new(&own, &Targets::Mesh, nodes);
        (0..5).map(|number| tournament.round(number)).collect::<Vec<_>>()
    };
    let first = rounds(&nodes);
    nodes.reverse();
    assert_eq!(rounds(&nodes), first);
}

#[test]
fn one_node_meets_its_targets_one_after_the_other() {
    let nodes = names(5);
    let targets = Targets::Peers(vec![nodes[3].clone(), nodes[1].clone(), nodes[2].clone()]);
    // Itself is no pair.
    let tournament = Tournament::new(&nodes[2], &targets, &nodes);
    assert_eq!((tournament.rounds(), tournament.pairs()), (2, 2));
    assert_eq!(tournament.round(0), [(nodes[2].clone(), nodes[1].clone())]);
    assert_eq!(tournament.round(1), [(nodes[2].clone(), nodes[3].clone())]);
    assert_eq!(tournament.nodes(), [nodes[2].clone(), nodes[1].clone(), nodes[3].clone()]);
    assert!(tournament.round(2).is_empty());
}
