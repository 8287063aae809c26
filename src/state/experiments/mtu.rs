//! The largest packet that each direction of a path carries, and when to look for it.

use std::time::{Duration, Instant, SystemTime};

use super::super::{Moment, Verdict};
use super::Situation;
use crate::experiment::{Experiment, LargestPacket};
use crate::probe::Direction;

/// Time from one search to the next, while the fault lasts.
const REPEAT: Duration = Duration::from_secs(3600);
/// The same after one that proved nothing or could not be made, and at the least.
const RETRY: Duration = Duration::from_secs(60);

/// The largest packet of each direction, as long as the verdict is that it loses full-size ones. Boxed: most peers
/// never have one.
#[derive(Debug, Clone, Default)]
pub struct Mtu(Option<Box<[Searches; 2]>>);

/// The searches in one direction.
#[derive(Debug, Clone, Copy, Default)]
struct Searches {
    found: Option<(LargestPacket, SystemTime)>,
    /// When the last one began.
    begun: Option<Instant>,
}

const DIRECTIONS: [Direction; 2] = [Direction::Outgoing, Direction::Incoming];

impl Mtu {
    /// What was found of a direction, and when.
    #[must_use]
    pub fn largest(&self, direction: Direction) -> Option<(LargestPacket, SystemTime)> {
        self.get(direction).found
    }

    pub(super) fn due(&self, now: Moment, peer: Situation) -> Option<Experiment> {
        let is_due = |direction: &Direction| {
            let Searches { found, begun } = self.get(*direction);
            let pause = if found.is_some() { REPEAT } else { RETRY };
            is_at_fault(peer.verdict, *direction)
                && begun.is_none_or(|begun| now.instant >= begun + pause)
        };
        let direction = DIRECTIONS.into_iter().find(is_due)?;
        Some(Experiment::Mtu { address: peer.address, direction })
    }

    pub(super) fn begin(&mut self, now: Moment, direction: Direction) {
        self.get_mut(direction).begun = Some(now.instant);
    }

    /// Folds in what was found of a direction that is still at fault.
    pub(super) fn end(
        &mut self,
        now: Moment,
        direction: Direction,
        largest: Option<LargestPacket>,
        peer: Situation,
    ) {
        if !is_at_fault(peer.verdict, direction) {
            return;
        }
        let largest = largest.and_then(|largest| judge(largest, direction, peer));
        self.set(direction, largest.map(|largest| (largest, now.wall)));
    }

    /// Drops the numbers of directions that are no longer at fault.
    pub(super) fn follow(&mut self, verdict: Verdict) {
        for direction in DIRECTIONS {
            if !is_at_fault(verdict, direction) && self.largest(direction).is_some() {
                self.set(direction, None);
            }
        }
    }

    pub(crate) fn set(&mut self, direction: Direction, found: Option<(LargestPacket, SystemTime)>) {
        self.get_mut(direction).found = found;
    }

    fn get(&self, direction: Direction) -> Searches {
        let [outgoing, incoming] = self.0.as_deref().copied().unwrap_or_default();
        if direction == Direction::Incoming { incoming } else { outgoing }
    }

    fn get_mut(&mut self, direction: Direction) -> &mut Searches {
        let [outgoing, incoming] = &mut **self.0.get_or_insert_default();
        if direction == Direction::Incoming { incoming } else { outgoing }
    }
}

fn is_at_fault(verdict: Verdict, direction: Direction) -> bool {
    matches!(verdict, Verdict::Mtu(fault) if fault == direction || fault == Direction::Both)
}

/// What "at least" means where everything passes that the kernel sends: a router has named that size, or
/// nothing is lost at the moment.
fn judge(largest: LargestPacket, direction: Direction, peer: Situation) -> Option<LargestPacket> {
    let is_all = peer.path_mtu.is_some_and(|path_mtu| u32::from(largest.bytes) >= path_mtu);
    if largest.is_exact || !is_all {
        return Some(largest);
    }
    let is_named = direction == Direction::Outgoing
        && peer.path_mtu < peer.largest_path_mtu
        && peer.path_mtu == Some(largest.bytes.into());
    is_named.then_some(LargestPacket { is_exact: true, ..largest })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: Verdict = Verdict::Mtu(Direction::Outgoing);
    const BOTH: Verdict = Verdict::Mtu(Direction::Both);
    const FOUND: LargestPacket = LargestPacket { bytes: 1337, is_exact: true };

    fn situation(verdict: Verdict) -> Situation {
        Situation {
            address: "10.0.0.2:9050".parse().unwrap(),
            verdict,
            path_mtu: Some(1500),
            largest_path_mtu: Some(1500),
        }
    }

    /// Directions of the searches that begin within so many seconds, each ending at once with `found`.
    fn searches(
        mtu: &mut Mtu,
        start: Moment,
        seconds: std::ops::Range<u64>,
        verdict: Verdict,
        found: Option<LargestPacket>,
    ) -> Vec<(u64, Direction)> {
        let mut begun = Vec::new();
        mtu.follow(verdict);
        for second in seconds {
            let instant = start.instant + Duration::from_secs(second);
            let now = Moment { instant, ..start };
            if let Some(Experiment::Mtu { direction, .. }) = mtu.due(now, situation(verdict)) {
                mtu.begin(now, direction);
                mtu.end(now, direction, found, situation(verdict));
                begun.push((second, direction));
            }
        }
        begun
    }

    #[test]
    fn the_directions_at_fault_are_searched_at_once_and_hourly() {
        use Direction::{Incoming, Outgoing};
        let (mut mtu, start) = (Mtu::default(), Moment::now());
        assert_eq!(searches(&mut mtu, start, 0..10, Verdict::Up, Some(FOUND)), []);
        let found = searches(&mut mtu, start, 10..7300, OUT, Some(FOUND));
        assert_eq!(found, [(10, Outgoing), (3610, Outgoing), (7210, Outgoing)]);
        assert_eq!(mtu.largest(Outgoing), Some((FOUND, start.wall)));
        assert_eq!(mtu.largest(Incoming), None);
        let found = searches(&mut mtu, start, 7300..7400, BOTH, Some(FOUND));
        assert_eq!(found, [(7300, Incoming)], "the other is known");
        mtu.follow(Verdict::Up);
        assert_eq!(mtu.largest(Outgoing).or(mtu.largest(Incoming)), None, "healed");
        let again = searches(&mut mtu, start, 7400..7410, BOTH, Some(FOUND));
        assert_eq!(again, [(7400, Outgoing), (7401, Incoming)]);
    }

    #[test]
    fn one_that_proves_nothing_or_is_refused_is_repeated_a_minute_later() {
        let (mut mtu, start) = (Mtu::default(), Moment::now());
        let begun = searches(&mut mtu, start, 0..150, OUT, None);
        assert_eq!(begun.iter().map(|(second, _)| *second).collect::<Vec<_>>(), [0, 60, 120]);
        mtu.begin(start, Direction::Outgoing);
        assert_eq!(mtu.due(start, situation(OUT)), None);
    }

    #[test]
    fn a_verdict_that_comes_and_goes_causes_one_search_a_minute() {
        let (mut mtu, start) = (Mtu::default(), Moment::now());
        let mut begun = Vec::new();
        for second in 0..120 {
            let verdict = if second % 2 == 0 { OUT } else { Verdict::Lossy };
            let found = searches(&mut mtu, start, second..second + 1, verdict, Some(FOUND));
            begun.extend(found.into_iter().map(|(second, _)| second));
        }
        assert_eq!(begun, [0, 60]);
    }

    #[test]
    fn only_what_is_found_of_a_direction_at_fault_counts() {
        let (mut mtu, now) = (Mtu::default(), Moment::now());
        let mut end = |found, verdict| {
            mtu.end(now, Direction::Outgoing, found, situation(verdict));
            mtu.largest(Direction::Outgoing)
        };
        assert_eq!(end(Some(FOUND), Verdict::Up), None, "it came too late");
        assert_eq!(end(Some(FOUND), OUT), Some((FOUND, now.wall)));
        assert_eq!(end(None, OUT), None, "no longer proven");
    }

    #[test]
    fn what_carries_all_that_is_sent_has_the_size_that_a_router_named_or_none() {
        let at_least = |bytes| LargestPacket { bytes, is_exact: false };
        let shrunk = Situation { path_mtu: Some(1300), ..situation(OUT) };
        let (out, incoming) = (Direction::Outgoing, Direction::Incoming);
        assert_eq!(judge(at_least(1500), out, situation(OUT)), None);
        assert_eq!(judge(at_least(576), out, situation(OUT)), Some(at_least(576)), "a clamp");
        let named = Some(LargestPacket { bytes: 1300, is_exact: true });
        assert_eq!(judge(at_least(1300), out, shrunk), named);
        assert_eq!(judge(at_least(1300), incoming, shrunk), None);
        assert_eq!(judge(at_least(1500), out, shrunk), None, "it has grown again");
        assert_eq!(judge(FOUND, incoming, situation(OUT)), Some(FOUND));
    }
}
