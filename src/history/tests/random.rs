//! Random sequences of all that happens to a memory.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Pass(u32),
    Late(u32),
    Probe(u16, End),
    Peers(BTreeSet<u16>),
    SetClock(i64),
    Rest(u16),
}

fn end() -> impl Strategy<Value = End> {
    let reason = prop::sample::select(FailureReason::ALL.to_vec());
    let time = (1_u64..3000).prop_map(Duration::from_millis);
    prop_oneof![
        6 => time.clone().prop_map(End::Success),
        1 => time.prop_map(|time| End::AfterLoss(time + SECOND)),
        2 => reason.clone().prop_map(End::Failure),
        1 => reason.prop_map(End::FailureAfterLoss),
        1 => Just(End::Local),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let peers = prop::collection::btree_set(0..6_u16, 0..6);
    let clock = prop_oneof![-100_i64..100, -400_000_i64..400_000];
    prop_oneof![
        6 => (1_u32..130).prop_map(Step::Pass),
        1 => (1_u32..2000).prop_map(Step::Late),
        20 => (0..6_u16, end()).prop_map(|(path, end)| Step::Probe(path, end)),
        1 => peers.prop_map(Step::Peers),
        2 => clock.prop_map(Step::SetClock),
        1 => (0..6_u16).prop_map(Step::Rest),
    ]
}

impl Mesh {
    fn make(&mut self, step: &Step) {
        match step {
            Step::Pass(seconds) => self.pass(SECOND * *seconds),
            Step::Late(seconds) => {
                self.now.instant += SECOND * *seconds;
                self.now.wall += SECOND * *seconds;
            }
            Step::Probe(path, end) => self.probe(*path, *end),
            Step::Peers(peers) => self.set_peers(peers.iter().copied()),
            Step::SetClock(seconds) => self.step(*seconds),
            Step::Rest(path) => {
                if self.state.rest(&name(*path)).is_err() {
                    self.state.resume(self.now.instant, &name(*path));
                }
            }
        }
    }

    /// Every closed cell has all that happened while it was open, and nothing else.
    fn check(&self) {
        let spans = self.history.closed();
        assert_eq!(spans.len(), self.closed.len());
        let all = self.recollect();
        let open = all.spans.last().unwrap();
        let kept = self.closed.iter().map(|(_, _, kept)| kept).chain([&self.open]);
        for (span, kept) in spans.iter().chain([open]).zip(kept) {
            for (path, node) in all.paths() {
                match kept.get(node) {
                    Some(kept) => kept.check(span.cell(path)),
                    None => assert!(span.cell(path).is_empty()),
                }
            }
            assert!(span.time.seconds >= 1 && span.time.seconds <= 300);
            assert!(
                kept.keys().all(|node| all.path(node).is_some() || kept[node].words.is_empty())
            );
        }
        for (index, span) in spans.iter().enumerate() {
            let overlaps = |other: &&Span| {
                other.time.from < span.time.to() && span.time.from < other.time.to()
            };
            let is_repeated = spans[..index].iter().any(|other| overlaps(&other));
            assert_eq!(span.time.is_repeated, is_repeated, "{:?}", span.time);
            // A clock that is slewed, and a loop that is late at the edge.
            let (began, ended, _) = &self.closed[index];
            assert!(u64::from(span.time.seconds) <= (*ended - *began).as_secs() + 12);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn nothing_is_lost_or_counted_twice(steps in prop::collection::vec(step(), 1..300)) {
        let mut mesh = Mesh::new(0..4);
        for step in &steps {
            mesh.make(step);
        }
        mesh.check();
    }
}
