//! The sentences.

use super::*;
use crate::name::NodeName;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn after(gap: Duration, mark: Mark, marked: u8) -> Coldness {
    Coldness::after(gap, gap - gap / 12, mark, marked, 3).unwrap()
}

#[test]
fn a_result_says_after_how_long_how_often_and_how() {
    let lost = Mark::Lost(Some(1004 * MS));
    for (coldness, text) in [
        (after(31 * SECOND, lost, 3), "cold after 31 s (3 of 3: first SYN lost, +1.0 s)"),
        (after(3250 * MS, lost, 2), "cold after 3.2 s (2 of 3: first SYN lost, +1.0 s)"),
        (
            after(31 * SECOND, Mark::Lost(None), 3),
            "cold after 31 s (3 of 3: first connection failed)",
        ),
        (
            after(183 * SECOND, Mark::Late(5100 * MS), 3),
            "late after 183 s (3 of 3: +5.1 s, then well)",
        ),
        (after(10 * SECOND, Mark::Late(64 * MS), 3), "late after 10 s (3 of 3: +64 ms, then well)"),
        (after(31 * SECOND, Mark::Refused, 3), "refused after 31 s (3 of 3)"),
        (
            Coldness::after(60 * SECOND, 30 * SECOND, lost, 3, 3).unwrap(),
            "cold after 60 s, warm at 30 s (3 of 3: first SYN lost, +1.0 s)",
        ),
        (
            Coldness::after(SECOND, Duration::ZERO, lost, 3, 3).unwrap(),
            "cold after 1 s (3 of 3: first SYN lost, +1.0 s)",
        ),
        (
            Coldness::after(5 * SECOND, Duration::ZERO, lost, 3, 3).unwrap(),
            "cold after 5 s, shorter gaps not tried (3 of 3: first SYN lost, +1.0 s)",
        ),
        (Coldness::WarmAt(300_007 * MS), "warm at 300 s"),
        (Coldness::Unproven, "unproven"),
        (Coldness::NotSurveyed, "not surveyed"),
    ] {
        assert_eq!(coldness.text(), text);
    }
}

fn report(target: &str, outgoing: Coldness, incoming: Coldness) -> PairReport {
    let [source, target] = ["a", target].map(|name| NodeName::new(name).unwrap());
    PairReport { source, target, at: 0, result: PairResult { outgoing, incoming } }
}

#[test]
fn the_interval_is_a_third_of_the_shortest() {
    let lost = Mark::Lost(Some(SECOND));
    let warm = Coldness::WarmAt(300 * SECOND);
    let said = |reports: &[PairReport]| recommendation(reports).map(|(_, text)| text);
    assert_eq!(said(&[]), None);
    assert_eq!(said(&[report("b", warm, Coldness::Unproven)]), None);
    let late = after(183 * SECOND, Mark::Late(5100 * MS), 3);
    let reports = [report("b", late, warm), report("c", after(31 * SECOND, lost, 3), warm)];
    let text = "choose WYLIS_INTERVAL=10s or less: a third of the shortest (a → c, 31 s)";
    assert_eq!(said(&reports).as_deref(), Some(text));
    assert_eq!(recommendation(&reports).unwrap().0, Some(10 * SECOND));
    // The direction is that of the first packet.
    let incoming = [report("b", warm, late)];
    let text = "choose WYLIS_INTERVAL=61s or less: a third of the shortest (b → a, 183 s)";
    assert_eq!(said(&incoming).as_deref(), Some(text));
    // A search that ended early knows only that it was warm at 30 s.
    let early = Coldness::after(60 * SECOND, 30 * SECOND, lost, 3, 3).unwrap();
    let text = "choose WYLIS_INTERVAL=10s or less: a third of the shortest (a → b, 30 s)";
    assert_eq!(said(&[report("b", early, warm)]).as_deref(), Some(text));
    let short = Coldness::after(SECOND, Duration::ZERO, lost, 3, 3).unwrap();
    let text = "choose WYLIS_INTERVAL=300ms or less: a third of the shortest (a → b, 1 s)";
    assert_eq!(said(&[report("b", short, warm)]).as_deref(), Some(text));
}

#[test]
fn without_a_warm_gap_below_no_interval_is_named() {
    let lost = Mark::Lost(Some(SECOND));
    let open = |gap: Duration| Coldness::after(gap, Duration::ZERO, lost, 3, 3).unwrap();
    let exact = after(31 * SECOND, lost, 3);
    let text = "a path goes cold within 5 s, and shorter gaps were not tried: survey again with shorter --gaps, such \
                as 1s,2s,5s";
    let reports = [report("b", exact, open(10 * SECOND)), report("c", open(5 * SECOND), exact)];
    assert_eq!(recommendation(&reports), Some((None, text.to_owned())));
    // There is no shorter gap than 1 s.
    let shortest = report("b", open(1020 * MS), exact);
    assert_eq!(recommendation(&[shortest]).unwrap().0, Some(300 * MS));
}

#[test]
fn all_is_warm_up_to_the_shortest_of_the_longest_gaps() {
    let [five, ten] = [5, 10].map(|gap| Coldness::WarmAt(gap * SECOND));
    assert_eq!(all_warm(&[]), None);
    assert_eq!(all_warm(&[report("b", ten, five), report("c", ten, ten)]), Some(5 * SECOND));
    for other in [Coldness::Unproven, Coldness::NotSurveyed, after(31 * SECOND, Mark::Refused, 3)] {
        assert_eq!(all_warm(&[report("b", ten, ten), report("c", other, ten)]), None);
    }
    let none = Coldness::NotSurveyed;
    assert!(!has_result(&report("b", none, none)) && has_result(&report("b", none, ten)));
}
