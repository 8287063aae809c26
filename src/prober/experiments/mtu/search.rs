//! The search for the largest packet: what to try next, and what the trials prove. Pure.
//!
//! It bisects. Nothing is proven on a path that loses packets of any size. So a small packet must pass before the
//! search and after each one that is lost; in the end the largest that passed must do so again, and the next size must
//! be lost again; and a packet that needed a retransmit is neither.

use crate::experiment::LargestPacket;
use crate::wire::MAX_SEGMENT;

/// The largest packet that is tried: one with the longest message that fills a segment. Where segments are longer,
/// as on the loopback, no packet is lost for its size.
const MOST: u16 = 9 * 1024 + 52;
const _: () = assert!(MOST as usize == MAX_SEGMENT + 52);
/// The smallest one: it has room for a request and for the head of an answer. Every IPv4 host accepts 576 bytes.
const LEAST: u16 = 500;
/// Small packets that must pass before the first large one.
const CONTROLS: u8 = 2;
/// How often the largest packet must pass: of a path that loses half of what is larger, one size in 16 does by
/// chance.
const PROOFS: u8 = 4;
/// The same where all that can be sent passes, which takes no other trials: of a path that loses 30 % of all packets
/// in one direction, one search in 600 ends so.
const PROOFS_OF_ALL: u8 = 10;
/// Trials that may be unclear: each is repeated. On a path that loses 1 %, three searches of four end with a number.
const MAX_UNCLEAR: u8 = 1;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Send small packets both ways.
    Control,
    /// Send a packet of so many bytes, IP header included, or as many as the connection allows.
    Packet(u16),
    /// The result; `None`: nothing is proven.
    Done(Option<LargestPacket>),
}

/// What one trial has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// A packet of so many bytes passed at once: those that were wanted, or fewer.
    Passed(u16),
    /// A packet of so many bytes did not.
    Lost(u16),
    /// Neither can be told: it was sent again, or there was no connection.
    Unclear,
}

/// One search.
#[derive(Debug)]
pub(super) struct Search {
    /// The largest size that was wanted and passed.
    low: u16,
    /// The smallest one that was lost.
    high: u16,
    /// Bytes of the largest packet that really went and passed.
    passed: u16,
    /// Controls that must still pass.
    controls: u8,
    /// How often `low` has passed; `high` was lost as often as it must be once `confirmed`.
    proofs: u8,
    confirmed: bool,
    unclear: u8,
    failed: bool,
}

impl Search {
    pub(super) const fn new() -> Self {
        Self {
            low: 0,
            high: MOST + 1,
            passed: 0,
            controls: CONTROLS,
            proofs: 0,
            confirmed: false,
            unclear: 0,
            failed: false,
        }
    }

    pub(super) fn next(&self) -> Next {
        if self.failed {
            return Next::Done(None);
        }
        if self.controls > 0 {
            return Next::Control;
        }
        if self.high > MOST {
            let proven = self.proofs == PROOFS_OF_ALL;
            return if proven { self.found(false) } else { Next::Packet(MOST) };
        }
        if self.low == 0 {
            return Next::Packet(LEAST);
        }
        if self.high - self.low > 1 {
            return Next::Packet(self.low.midpoint(self.high));
        }
        match (self.passed == self.low, self.confirmed) {
            _ if self.proofs < PROOFS => Next::Packet(self.low),
            (true, false) => Next::Packet(self.high),
            (is_exact, _) => self.found(is_exact),
        }
    }

    /// Folds in what [`Self::next`] has led to.
    pub(super) fn add(&mut self, trial: Trial) {
        let wanted = match (self.next(), trial) {
            (Next::Done(_), _) => return,
            (_, Trial::Unclear) => {
                self.unclear += 1;
                self.failed = self.unclear > MAX_UNCLEAR;
                return;
            }
            (Next::Control, _) => {
                self.controls -= 1;
                self.failed = !matches!(trial, Trial::Passed(_));
                return;
            }
            (Next::Packet(wanted), _) => wanted,
        };
        match trial {
            Trial::Unclear => {}
            Trial::Passed(bytes) => {
                // What was lost before must be lost again.
                self.failed = wanted == self.high;
                self.proofs = if wanted == self.low { self.proofs + 1 } else { 1 };
                self.low = wanted;
                self.passed = self.passed.max(bytes.min(wanted));
            }
            Trial::Lost(bytes) => {
                self.controls = 1;
                self.confirmed = wanted == self.high;
                self.high = bytes.min(wanted);
                if self.low == MOST {
                    // Some of the largest pass, and some do not.
                    (self.low, self.passed) = (0, 0);
                }
                self.failed = self.high <= self.low.max(LEAST);
            }
        }
    }

    fn found(&self, is_exact: bool) -> Next {
        Next::Done(Some(LargestPacket { bytes: self.passed, is_exact }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search; returns the result, the packets that were tried and the controls.
    fn run(mut path: impl FnMut(Next) -> Trial) -> (Option<LargestPacket>, usize, usize) {
        let mut search = Search::new();
        let (mut packets, mut controls) = (0, 0);
        loop {
            let next = search.next();
            match next {
                Next::Done(found) => return (found, packets, controls),
                Next::Packet(wanted) => {
                    assert!((LEAST..=MOST).contains(&wanted), "{wanted}");
                    packets += 1;
                }
                Next::Control => controls += 1,
            }
            assert!(packets + controls < 64, "{search:?}");
            search.add(path(next));
        }
    }

    /// A path that loses what is larger than `carries`, with connections that send at most `sends`.
    fn path(carries: u16, sends: impl Fn(u16) -> u16) -> impl Fn(Next) -> Trial {
        move |next| {
            let Next::Packet(wanted) = next else { return Trial::Passed(0) };
            let real = sends(wanted).min(wanted);
            if real <= carries { Trial::Passed(real) } else { Trial::Lost(real) }
        }
    }

    fn exactly(bytes: u16) -> Option<LargestPacket> {
        Some(LargestPacket { bytes, is_exact: true })
    }

    fn at_least(bytes: u16) -> Option<LargestPacket> {
        Some(LargestPacket { bytes, is_exact: false })
    }

    #[test]
    fn every_threshold_is_found_exactly_and_within_bounds() {
        for (sends, most) in [(1500, 22), (9000, 25), (MOST, 25)] {
            for carries in LEAST..sends {
                let (found, packets, controls) = run(path(carries, |_| sends));
                assert_eq!(found, exactly(carries));
                assert!(packets <= most && controls <= most, "{carries}: {packets} {controls}");
            }
        }
    }

    #[test]
    fn a_path_that_carries_all_that_can_be_sent_carries_at_least_that() {
        assert_eq!(run(path(1500, |_| 1500)), (at_least(1500), 10, 2));
        assert_eq!(run(path(MOST, |_| MOST)), (at_least(MOST), 10, 2));
    }

    #[test]
    fn a_clamp_hides_only_what_is_above_it() {
        assert_eq!(run(path(1337, |_| 940)).0, at_least(940));
        assert_eq!(run(path(940, |_| 940)).0, at_least(940));
        assert_eq!(run(path(939, |_| 940)).0, exactly(939));
    }

    #[test]
    fn syn_cookies_leave_gaps_between_the_sizes_that_can_be_sent() {
        let cookies = |wanted| match wanted {
            0..1340 => 576,
            1340..1480 => 1340,
            1480..1500 => 1480,
            _ => 1500,
        };
        assert_eq!(run(path(1337, cookies)).0, at_least(576));
        assert_eq!(run(path(1400, cookies)).0, at_least(1340));
        assert_eq!(run(path(1499, cookies)).0, at_least(1480));
        assert_eq!(run(path(1500, cookies)).0, at_least(1500));
    }

    #[test]
    fn a_small_packet_must_pass_before_the_search_and_after_each_loss() {
        let mut before = Vec::new();
        let carries = path(1337, |_| 1500);
        let (found, ..) = run(|next| {
            let trial = carries(next);
            before.push((next == Next::Control, matches!(trial, Trial::Lost(_))));
            trial
        });
        assert_eq!(found, exactly(1337));
        assert!(before[0].0 && before[1].0 && !before[2].0, "{before:?}");
        assert!(before.windows(2).all(|two| !two[0].1 || two[1].0), "{before:?}");
        let failing = |next| if next == Next::Control { Trial::Lost(0) } else { carries(next) };
        assert_eq!(run(failing), (None, 0, 1));
    }

    #[test]
    fn one_unclear_trial_is_repeated_and_a_second_ends_the_search() {
        for (first, second) in (1..20).flat_map(|first| (1..20).map(move |second| (first, second)))
        {
            let mut trials = 0;
            let (found, ..) = run(|next| {
                trials += 1;
                let unclear = trials == first || trials == second;
                if unclear { Trial::Unclear } else { path(1337, |_| 1500)(next) }
            });
            assert_eq!(found.is_some(), first == second, "{first} {second}");
        }
        assert_eq!(run(path(LEAST - 1, |_| 1500)).0, None, "below the smallest");
    }

    #[test]
    fn of_random_loss_hardly_any_search_makes_a_number() {
        // Of each packet in one direction: two must pass at once, or one of three transmissions later.
        let mut random = 1_u64;
        for (loss, carries, most) in
            [(0.3, 1500, 60), (0.3, 1337, 2), (0.5, 1500, 2), (0.1, 1200, 9000)]
        {
            let (mut numbers, mut wrong) = (0, 0);
            for _ in 0..20_000 {
                let (found, ..) = run(|next| {
                    let mut lost = || {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        ((random >> 40) as f64) < loss * f64::from(1 << 24)
                    };
                    match path(carries, |_| 1500)(next) {
                        Trial::Passed(real) => match [lost(), lost(), lost(), lost()] {
                            [false, false, ..] => Trial::Passed(real),
                            [false, true, true, true] => Trial::Lost(real),
                            _ => Trial::Unclear,
                        },
                        Trial::Lost(real) => {
                            if lost() {
                                Trial::Unclear
                            } else {
                                Trial::Lost(real)
                            }
                        }
                        Trial::Unclear => Trial::Unclear,
                    }
                });
                numbers += u32::from(found.is_some());
                wrong +=
                    u32::from(found.is_some_and(|found| found.is_exact && found.bytes != carries));
            }
            assert!(numbers <= most && wrong == 0, "{loss} {carries}: {numbers}, {wrong} wrong");
        }
    }

    #[test]
    fn one_packet_that_is_lost_by_chance_gives_no_wrong_number() {
        for chance in 0..20 {
            let mut packets = 0;
            let (found, ..) = run(|next| {
                packets += usize::from(next != Next::Control);
                match (next, path(1337, |_| 1500)(next)) {
                    (Next::Packet(_), Trial::Passed(real)) if packets == chance => {
                        Trial::Lost(real)
                    }
                    (_, trial) => trial,
                }
            });
            assert!([None, exactly(1337)].contains(&found), "{chance}: {found:?}");
        }
    }

    #[test]
    fn a_path_of_which_one_flow_in_two_loses_large_packets_gives_no_number_above_theirs() {
        // All ways in which the first 16 packets may meet the two flows.
        let (mut wrong, ways) = (0, 1_u32 << 16);
        for way in 0..ways {
            let mut packets = 0;
            let (found, ..) = run(|next| {
                packets += u32::from(next != Next::Control);
                let carries = if way >> (packets % 16) & 1 == 0 { 1500 } else { 1337 };
                path(carries, |_| 1500)(next)
            });
            wrong += u32::from(found.is_some_and(|found| found.bytes > 1337));
        }
        assert!(wrong * 10 < ways, "{wrong} of {ways}");
    }
}
