//! The schedule with a virtual clock, also over random sequences of operations.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn name(number: u8) -> NodeName {
    NodeName::new(&format!("n{number}")).unwrap()
}

fn schedule() -> Schedule {
    seeded(1)
}

fn seeded(seed: u64) -> Schedule {
    Schedule::new(name(255), INTERVAL, Random::seeded(seed))
}

/// Whether a gap between two slots is one that is drawn where nothing else happened.
fn is_drawn(gap: Duration) -> bool {
    gap >= INTERVAL.mul_f64(SHORTEST_GAP) && gap <= INTERVAL
}

/// Takes all slots of a schedule until `end`, on time; each probe ends at once.
fn run(schedule: &mut Schedule, end: Instant) -> Vec<DueProbe> {
    let mut slots = Vec::new();
    while let Some(now) = schedule.next_deadline().filter(|now| *now < end) {
        for due in schedule.take_due(now).due {
            schedule.finished(&due.node);
            slots.push(due);
        }
    }
    slots
}

#[test]
fn a_new_peer_is_due_within_two_seconds_and_then_in_gaps_that_are_drawn_anew() {
    let start = Instant::now();
    let mut schedule = schedule();
    let now = start + Duration::from_secs(100);
    schedule.join(now, &name(1));
    let first = schedule.next_deadline().unwrap();
    assert!(first >= now && first < now + NEW_PEER_WITHIN);
    let slots: Vec<Instant> =
        run(&mut schedule, now + INTERVAL * 200).iter().map(|slot| slot.due).collect();
    assert_eq!(slots[0], first);
    let mut gaps: Vec<Duration> = slots.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let to_second = gaps.remove(0);
    assert!(to_second >= INTERVAL / 10 && to_second <= INTERVAL, "{to_second:?}");
    assert!(gaps.iter().all(|gap| is_drawn(*gap)), "{gaps:?}");
    let count = u32::try_from(gaps.len()).unwrap();
    let mean = gaps.iter().sum::<Duration>() / count;
    assert!(mean.abs_diff(INTERVAL.mul_f64(MEAN_GAP)) < INTERVAL / 50, "{mean:?}");
    gaps.sort_unstable();
    assert!(gaps[0] < INTERVAL * 82 / 100 && gaps[gaps.len() - 1] > INTERVAL * 98 / 100);
}

#[test]
fn the_same_seed_gives_the_same_slots() {
    let start = Instant::now();
    let slots = |seed| {
        let mut schedule = seeded(seed);
        (0..20).for_each(|number| schedule.join(start, &name(number)));
        run(&mut schedule, start + INTERVAL * 10)
    };
    assert_eq!(slots(7), slots(7));
    assert_ne!(slots(7), slots(8));
}

/// Most of these times within one `window`.
fn most_within(mut times: Vec<Instant>, window: Duration) -> usize {
    times.sort_unstable();
    let after = |from: &Instant| times.partition_point(|time| *time < *from + window);
    times.iter().enumerate().map(|(at, from)| after(from) - at).max().unwrap_or(0)
}

#[test]
fn agents_that_start_together_do_not_probe_together() {
    let start = Instant::now();
    let mut requests = Vec::new();
    for agent in 0..200 {
        let random = Random::seeded(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(agent.into()));
        let mut schedule = Schedule::new(name(agent), INTERVAL, random);
        schedule.join(start, &name(255));
        requests.push(run(&mut schedule, start + INTERVAL * 5));
    }
    // The first requests of 200 agents arrive within 2 s, all later ones within an interval.
    let nth = |n: usize| requests.iter().map(|slots| slots[n].due).collect::<Vec<_>>();
    let tenth = |n| most_within(nth(n), INTERVAL / 100);
    assert!(tenth(0) <= 30, "{} in 0.1 s", tenth(0));
    assert!((1..5).all(|n| tenth(n) <= 15), "{:?} in 0.1 s", (1..5).map(tenth).collect::<Vec<_>>());
}

#[test]
fn a_fault_with_the_period_of_the_interval_meets_every_pair() {
    const INTERVAL: Duration = Duration::from_secs(2);
    const DEAD: Duration = Duration::from_millis(400);
    const NODES: u8 = 6;
    let start = Instant::now();
    let mut met = Vec::new();
    for source in 0..NODES {
        let mut schedule = Schedule::new(name(source), INTERVAL, Random::seeded(source.into()));
        let targets = (0..NODES).filter(|target| *target != source);
        targets.clone().for_each(|target| schedule.join(start, &name(target)));
        let slots = run(&mut schedule, start + INTERVAL * 45);
        met.extend(targets.map(|target| {
            let slots = slots.iter().filter(|slot| slot.node == name(target)).take(40);
            let phases = slots.map(|slot| (slot.due - start).as_nanos() % INTERVAL.as_nanos());
            phases.filter(|phase| *phase < DEAD.as_nanos()).count()
        }));
    }
    let pairs = met.iter().filter(|probes| **probes > 0).count();
    assert_eq!(pairs, 30, "met by {pairs} of 30 pairs: {met:?}");
    // A fifth of the time: eight of 40 on average.
    assert!(met.iter().all(|probes| (3..=13).contains(probes)), "{met:?}");
}

#[test]
fn a_peer_that_is_added_anew_keeps_an_earlier_slot() {
    let start = Instant::now();
    let mut schedule = schedule();
    schedule.join(start, &name(1));
    let first = schedule.next_deadline().unwrap();
    schedule.take_due(first);
    let second = schedule.next_deadline().unwrap();
    // A refresh moves the peer just before its slot; so does each further one.
    for before in [300, 200, 100, 1] {
        schedule.join(second - Duration::from_millis(before), &name(1));
        assert!(schedule.next_deadline().unwrap() <= second);
    }
    // The probe in flight was for the old address.
    assert_eq!(schedule.take_due(second).due.len(), 1);
    // A pause and a resume before the slot do not move it either.
    let third = schedule.next_deadline().unwrap();
    schedule.finished(&name(1));
    schedule.pause(&name(1));
    assert!(schedule.take_due(third - Duration::from_millis(2)).due.is_empty());
    schedule.resume(third - Duration::from_millis(1), &name(1));
    assert!(schedule.next_deadline().unwrap() <= third);
}

#[test]
fn a_stalled_peer_skips_its_own_slots_and_delays_no_other() {
    let start = Instant::now();
    let mut schedule = schedule();
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
    assert!((19..=25).contains(&skipped), "{skipped}");
    assert!(probes.values().all(|count| (20..=25).contains(count)), "{probes:?}");
}

#[test]
fn after_a_long_pause_each_peer_is_probed_once_and_the_missed_slots_are_counted() {
    let start = Instant::now();
    let mut schedule = schedule();
    schedule.join(start, &name(1));
    let taken = schedule.take_due(start + INTERVAL * 10);
    assert_eq!(taken.due.len(), 1);
    assert!((10..=12).contains(&taken.skipped), "{}", taken.skipped);
    let next = schedule.next_deadline().unwrap() - (start + INTERVAL * 10);
    assert!(next > Duration::ZERO && next <= INTERVAL, "{next:?}");
}

#[test]
fn a_paused_peer_has_no_slot_until_it_is_resumed() {
    let start = Instant::now();
    let mut schedule = schedule();
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

/// Most passes of time are short, some longer than several intervals: a caller that was late.
fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let node = 0..6_u8;
    let operation = prop_oneof![
        2 => node.clone().prop_map(Operation::Join),
        1 => node.clone().prop_map(Operation::Leave),
        1 => node.clone().prop_map(Operation::Pause),
        1 => node.clone().prop_map(Operation::Resume),
        4 => node.prop_map(Operation::Finish),
        6 => (0..4000_u16).prop_map(Operation::Pass),
        1 => (0..60_000_u16).prop_map(Operation::Pass),
    ];
    proptest::collection::vec(operation, 1..300)
}

proptest! {
    #[test]
    fn never_two_probes_in_flight_and_no_slot_of_a_peer_that_left(operations in operations()) {
        let start = Instant::now();
        let mut schedule = schedule();
        let mut now = start;
        // Whether each scheduled peer has a probe in flight.
        let mut model: HashMap<NodeName, bool> = HashMap::new();
        let mut paused: HashMap<NodeName, bool> = HashMap::new();
        let mut last: HashMap<NodeName, Instant> = HashMap::new();
        for operation in operations {
            let before: HashMap<NodeName, Instant> =
                schedule.queue.iter().map(|(slot, node)| (node.clone(), *slot)).collect();
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
            for (node, slot) in &before {
                let entry = schedule.entries.get(node).filter(|entry| !entry.is_paused);
                prop_assert!(entry.is_none_or(|entry| entry.slot <= *slot), "deferred");
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
            // Nothing is due now, and everything within one interval.
            prop_assert!(schedule.queue.iter().all(|(slot, _)| *slot > now));
            prop_assert!(schedule.queue.iter().all(|(slot, _)| *slot <= now + INTERVAL));
            prop_assert_eq!(schedule.next_deadline().is_some(), !model.is_empty());
            prop_assert_eq!(schedule.queue.len(), model.len());
        }
    }

    #[test]
    fn two_slots_are_at_most_one_interval_apart(
        peers in 1..20_u8,
        late in 0..200_u64,
        seed: u64,
        rejoins in proptest::collection::vec((0..20_u8, 0..120_000_u64), 0..40),
    ) {
        let start = Instant::now();
        let mut schedule = seeded(seed);
        for number in 0..peers {
            schedule.join(start, &name(number));
        }
        let mut rejoins: Vec<_> = rejoins.into_iter().filter(|(peer, _)| *peer < peers).collect();
        rejoins.sort_unstable_by_key(|(_, at)| *at);
        let mut rejoins = rejoins.into_iter().peekable();
        let mut last: HashMap<NodeName, Instant> = HashMap::new();
        let end = start + INTERVAL * 12;
        while let Some(next) = schedule.next_deadline().filter(|next| *next < end) {
            if let Some((peer, at)) = rejoins.next_if(|(_, at)| start + Duration::from_millis(*at) < next) {
                schedule.join(start + Duration::from_millis(at), &name(peer));
                continue;
            }
            let taken = schedule.take_due(next + Duration::from_millis(late));
            prop_assert_eq!(taken.skipped, 0);
            for due in taken.due {
                schedule.finished(&due.node);
                if let Some(before) = last.insert(due.node, due.due) {
                    prop_assert!(due.due - before <= INTERVAL, "{:?}", due.due - before);
                }
            }
        }
        prop_assert_eq!(last.len(), usize::from(peers));
    }
}
