//! The schedule with a virtual clock, also over random sequences of operations.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn name(number: u8) -> NodeName {
    NodeName::new(&format!("n{number}")).unwrap()
}

fn schedule(start: Instant) -> Schedule {
    Schedule::new(name(255), INTERVAL, start)
}

#[test]
fn a_new_peer_is_due_within_two_seconds_and_then_at_its_offset() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    let now = start + Duration::from_secs(100);
    schedule.join(now, &name(1));
    let first = schedule.next_deadline().unwrap();
    assert!(first >= now && first < now + NEW_PEER_WITHIN);
    let taken = schedule.take_due(first);
    assert_eq!(taken, DueProbes { due: vec![DueProbe { node: name(1), due: first }], skipped: 0 });
    schedule.finished(&name(1));
    let second = schedule.next_deadline().unwrap();
    assert!(second - first >= INTERVAL / 10 && second - first <= INTERVAL * 11 / 10);
    for round in 1..20 {
        let due = second + INTERVAL * (round - 1);
        assert_eq!(schedule.next_deadline(), Some(due), "the offset does not drift");
        assert_eq!(schedule.take_due(due + Duration::from_millis(7)).due.len(), 1);
        schedule.finished(&name(1));
    }
}

/// The last slot in three intervals of each peer that joins `at` this time.
fn slots(epoch: Instant, at: Instant, peers: u8) -> HashMap<NodeName, Instant> {
    let mut schedule = schedule(epoch);
    (0..peers).for_each(|number| schedule.join(at, &name(number)));
    let mut last = HashMap::new();
    while let Some(now) = schedule.next_deadline().filter(|now| *now < at + INTERVAL * 3) {
        for due in schedule.take_due(now).due {
            schedule.finished(&due.node);
            last.insert(due.node, due.due);
        }
    }
    last
}

#[test]
fn offsets_survive_a_restart_of_the_agent() {
    let start = Instant::now();
    let before = slots(start, start + Duration::from_millis(1234), 50);
    // Both epochs are multiples of the interval on the wall clock; the start of a process is not.
    let epoch = start + INTERVAL * 7;
    let after = slots(epoch, epoch + Duration::from_millis(4321), 50);
    assert_eq!(after.len(), 50);
    for (node, slot) in after {
        let distance = slot - before[&node];
        assert_eq!(distance.as_nanos() % INTERVAL.as_nanos(), 0, "{node}: {distance:?}");
    }
}

#[test]
fn offsets_are_spread_evenly_and_the_same_in_every_release() {
    let start = Instant::now();
    let slots = slots(start, start, 200);
    let offset = |number: u8| (slots[&name(number)] - start).as_nanos() % INTERVAL.as_nanos();
    let mut tenths = [0; 10];
    for number in 0..200 {
        tenths[usize::try_from(offset(number) / 1_000_000_000).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|count| (5..=40).contains(count)), "uneven: {tenths:?}");
    // Otherwise an upgrade would move the slots of all peers at once.
    assert_eq!([0, 1, 2].map(offset), [9_645_916_059, 6_132_857_254, 9_647_620_522]);
}

#[test]
fn a_stalled_peer_skips_its_own_slots_and_delays_no_other() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    for number in 0..10 {
        schedule.join(start, &name(number));
    }
    let stalled = name(3);
    let mut probes: HashMap<NodeName, u32> = HashMap::new();
    let mut skipped = 0;
    let end = start + INTERVAL * 20;
    while let Some(now) = schedule.next_deadline().filter(|now| *now < end) {
        let taken = schedule.take_due(now);
        skipped += taken.skipped;
        for due in taken.due {
            assert_eq!(due.due, now, "on time");
            *probes.entry(due.node.clone()).or_default() += 1;
            if due.node != stalled {
                schedule.finished(&due.node);
            }
        }
    }
    assert_eq!(probes.remove(&stalled), Some(1));
    assert!(skipped >= 18, "{skipped}");
    assert!(probes.values().all(|count| (19..=21).contains(count)), "{probes:?}");
}

#[test]
fn after_a_long_pause_each_peer_is_probed_once_and_the_missed_slots_are_counted() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    schedule.join(start, &name(1));
    let taken = schedule.take_due(start + INTERVAL * 10);
    assert_eq!(taken.due.len(), 1);
    assert!((8..=10).contains(&taken.skipped), "{}", taken.skipped);
    assert!(schedule.next_deadline().unwrap() > start + INTERVAL * 10);
}

#[test]
fn a_paused_peer_has_no_slot_until_it_is_resumed() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    schedule.join(start, &name(1));
    schedule.pause(&name(1));
    assert_eq!(schedule.next_deadline(), None);
    schedule.resume(start + INTERVAL, &name(1));
    assert!(schedule.next_deadline().unwrap() < start + INTERVAL + NEW_PEER_WITHIN);
}

#[derive(Debug, Clone)]
enum Operation {
    Join(u8),
    Leave(u8),
    Pause(u8),
    Resume(u8),
    Finish(u8),
    Pass(u16),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let node = 0..6_u8;
    let operation = prop_oneof![
        2 => node.clone().prop_map(Operation::Join),
        1 => node.clone().prop_map(Operation::Leave),
        1 => node.clone().prop_map(Operation::Pause),
        1 => node.clone().prop_map(Operation::Resume),
        4 => node.prop_map(Operation::Finish),
        6 => (0..4000_u16).prop_map(Operation::Pass),
    ];
    proptest::collection::vec(operation, 1..300)
}

proptest! {
    #[test]
    fn never_two_probes_in_flight_and_no_slot_of_a_peer_that_left(operations in operations()) {
        let start = Instant::now();
        let mut schedule = schedule(start);
        let mut now = start;
        // Whether each scheduled peer has a probe in flight.
        let mut model: HashMap<NodeName, bool> = HashMap::new();
        let mut paused: HashMap<NodeName, bool> = HashMap::new();
        let mut last: HashMap<NodeName, Instant> = HashMap::new();
        for operation in operations {
            match operation {
                Operation::Join(n) => {
                    schedule.join(now, &name(n));
                    paused.remove(&name(n));
                    model.insert(name(n), false);
                }
                Operation::Leave(n) => {
                    schedule.leave(&name(n));
                    paused.remove(&name(n));
                    model.remove(&name(n));
                }
                Operation::Pause(n) => {
                    schedule.pause(&name(n));
                    if let Some(in_flight) = model.remove(&name(n)) {
                        paused.insert(name(n), in_flight);
                    }
                }
                Operation::Resume(n) => {
                    schedule.resume(now, &name(n));
                    let in_flight = paused.remove(&name(n)).or(model.get(&name(n)).copied());
                    model.insert(name(n), in_flight.unwrap_or(false));
                }
                Operation::Finish(n) => {
                    schedule.finished(&name(n));
                    for flights in [&mut model, &mut paused] {
                        if let Some(in_flight) = flights.get_mut(&name(n)) {
                            *in_flight = false;
                        }
                    }
                }
                Operation::Pass(milliseconds) => now += Duration::from_millis(milliseconds.into()),
            }
            let mut seen = Vec::new();
            for due in schedule.take_due(now).due {
                prop_assert!(due.due <= now);
                let before = last.insert(due.node.clone(), due.due);
                prop_assert!(before.is_none_or(|before| before < due.due), "back to {:?}", before);
                prop_assert!(!seen.contains(&due.node), "twice at once");
                let in_flight = model.get_mut(&due.node);
                prop_assert_eq!(in_flight.as_deref(), Some(&false), "absent or in flight");
                if let Some(in_flight) = in_flight {
                    *in_flight = true;
                }
                seen.push(due.node);
            }
            prop_assert!(schedule.next_deadline().is_none_or(|next| next > now));
            prop_assert_eq!(schedule.next_deadline().is_some(), !model.is_empty());
            prop_assert_eq!(schedule.queue.len(), model.len());
        }
    }

    #[test]
    fn every_peer_is_due_exactly_once_an_interval(peers in 1..20_u8, late in 0..200_u64) {
        let start = Instant::now();
        let mut schedule = schedule(start);
        for number in 0..peers {
            schedule.join(start, &name(number));
        }
        let mut last: HashMap<NodeName, Instant> = HashMap::new();
        let end = start + INTERVAL * 12;
        while let Some(next) = schedule.next_deadline().filter(|next| *next < end) {
            let taken = schedule.take_due(next + Duration::from_millis(late));
            prop_assert_eq!(taken.skipped, 0);
            for due in taken.due {
                schedule.finished(&due.node);
                if let Some(before) = last.insert(due.node, due.due) {
                    let gap = due.due - before;
                    let settled = before > start + NEW_PEER_WITHIN;
                    prop_assert!(!settled || gap == INTERVAL, "{:?}", gap);
                }
            }
        }
        prop_assert_eq!(last.len(), usize::from(peers));
    }
}
