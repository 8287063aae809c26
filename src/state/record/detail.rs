//! What experiments add to the verdict on a peer.

use super::super::verdict::Verdict;
use super::PeerRecord;
use crate::experiment::{Detail, LargestPacket};
use crate::probe::Direction;

impl PeerRecord {
    /// What an experiment adds to the verdict.
    #[must_use]
    pub fn detail(&self) -> Option<Detail> {
        match self.verdict {
            Verdict::Down(_) => self.experiments.host.state.map(Detail::Host),
            Verdict::Flaky(_) => {
                self.experiments.flows.dead.filter(|flows| flows.dead > 0).map(Detail::Flows)
            }
            Verdict::Mtu(direction) => self.largest_packet(direction).map(Detail::Largest),
            Verdict::Unknown
            | Verdict::Draining
            | Verdict::OneWay
            | Verdict::Lossy
            | Verdict::Up => None,
        }
    }

    /// Of both directions, once both are known.
    fn largest_packet(&self, direction: Direction) -> Option<LargestPacket> {
        let of = |direction| Some(self.experiments.mtu.largest(direction)?.0);
        match direction {
            Direction::Both => Some(of(Direction::Outgoing)?.both_ways(of(Direction::Incoming)?)),
            one => of(one),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::experiment::{DeadFlows, HostState};
    use crate::probe::FailureReason;
    use crate::state::tests::record;

    #[test]
    fn each_verdict_has_the_detail_of_its_own_experiment() {
        let mut record = record();
        let largest = |bytes| Some((LargestPacket { bytes, is_exact: true }, UNIX_EPOCH));
        let reason = FailureReason::ConnectTimeout;
        let details = |record: &mut PeerRecord| {
            let verdicts = [
                Verdict::Up,
                Verdict::Lossy,
                Verdict::Down(reason),
                Verdict::Flaky(reason),
                Verdict::Mtu(Direction::Outgoing),
                Verdict::Mtu(Direction::Incoming),
                Verdict::Mtu(Direction::Both),
            ];
            verdicts.map(|verdict| {
                record.verdict = verdict;
                record.detail().map(|detail| detail.to_string()).unwrap_or_default()
            })
        };
        assert_eq!(details(&mut record), [""; 7]);
        let experiments = &mut record.experiments;
        experiments.host.state = Some(HostState::Silent);
        experiments.flows.dead = Some(DeadFlows { dead: 0, flows: 4 });
        experiments.mtu.set(Direction::Outgoing, largest(1337));
        let silent = "its host is silent";
        assert_eq!(details(&mut record), ["", "", silent, "", "1,337 bytes", "", ""]);
        let experiments = &mut record.experiments;
        experiments.flows.dead = Some(DeadFlows { dead: 1, flows: 4 });
        experiments.mtu.set(Direction::Incoming, largest(1200));
        assert_eq!(
            details(&mut record)[3..],
            ["1 of 4 flows never gets through", "1,337 bytes", "1,200 bytes", "1,200 bytes"]
        );
        let at_least = LargestPacket { bytes: 524, is_exact: false };
        record.experiments.mtu.set(Direction::Incoming, Some((at_least, UNIX_EPOCH)));
        assert_eq!(details(&mut record)[6], "at least 524 bytes");
    }
}
