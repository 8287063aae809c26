//! Nights of a mesh, and the lines that they must give.

mod bounds;
mod night;
mod property;
mod speed;

use night::{Night, T0, day_of, down, flaky, texts};

use super::*;
use crate::experiment::HostState;
use crate::history::{Faults, Word};
use crate::probe::{Direction, FailureReason};
use crate::state::Incoming;

const NODES: [&str; 4] = ["a", "b", "c", "d"];

/// The lines, as the agent of `a` tells them.
#[track_caller]
fn assert_says(night: &Night, expected: &[&str]) {
    assert_eq!(texts(&day_of(night, "a")), expected);
}

#[test]
fn nothing_is_said_of_a_healthy_day() {
    let night = Night::new(&NODES);
    let day = day_of(&night, "a");
    assert_eq!(texts(&day), [""; 0]);
    assert_eq!((day.since, day.at), (Some(T0), T0 + DAY - 1));
    let healthy = |bin: &Bin| (bin.pairs, bin.faulty, bin.is_repeated) == (12, [0; 5], false);
    assert!(day.bins.len() == 288 && day.bins.iter().all(healthy), "{:?}", day.bins);
    assert_eq!((day.left_out, day.judged_since, day.missing), (0, None, vec![]));
}

#[test]
fn a_node_that_was_dead_for_a_minute_is_one_line() {
    let mut night = Night::new(&NODES);
    let silent = Word {
        incoming: Some(Incoming::Nothing),
        host: Some(HostState::Silent),
        ..down(FailureReason::ConnectTimeout)
    };
    for source in ["a", "b", "d"] {
        night.says(source, "c", "03:10", "03:20", silent);
    }
    // Its agent begins anew, with a gap in the middle of a bin.
    night.cut("c", "03:11", "03:12");
    let text = "03:10-03:20 ! c is down: none of 3 others reaches it (connect_timeout); \
                nothing from c or its host";
    assert_says(&night, &[text]);
    let day = day_of(&night, "d");
    assert_eq!(texts(&day), [text]);
    assert_eq!(day.findings[0].nodes, [NodeName::new("c").unwrap()]);
    let counts: Vec<u32> = day.bins[37..41].iter().map(|bin| bin.faulty[0]).collect();
    assert_eq!(counts, [0, 3, 3, 0]);
}

#[test]
fn a_pair_that_was_black_holed_for_seconds_is_one_line() {
    let mut night = Night::new(&NODES);
    night.says("a", "b", "03:10", "03:15", flaky(FailureReason::ConnectTimeout));
    night.says("b", "a", "03:10", "03:15", flaky(FailureReason::ConnectTimeout));
    assert_says(&night, &["03:10-03:15 a ↔ b: flaky (connect_timeout, 3 of 33)"]);
    let mut night = Night::new(&NODES);
    night.says("a", "b", "03:10", "03:20", down(FailureReason::ConnectTimeout));
    assert_says(&night, &["03:10-03:20 ! a → b: down (connect_timeout)"]);
}

#[test]
fn a_split_is_told_as_this_side_saw_it() {
    let mut night = Night::new(&["a", "b", "c", "d", "e"]);
    for (one, other) in [("a", "c"), ("a", "d"), ("a", "e"), ("b", "c"), ("b", "d"), ("b", "e")] {
        night.says(one, other, "22:00", "23:00", down(FailureReason::ConnectTimeout));
        night.says(other, one, "22:00", "23:00", down(FailureReason::ConnectTimeout));
    }
    assert_says(
        &night,
        &["22:00-23:00 ! the mesh is split: this side is {a, b}; the rows of c, d, e are missing"],
    );
}

#[test]
fn a_lossy_uplink_is_one_line() {
    let mut night = Night::new(&NODES);
    for other in ["a", "b", "d"] {
        let lossy = Word { losses: [7, 0], ..Word::of(Verdict::Lossy) };
        night.says("c", other, "03:10", "04:00", lossy);
    }
    assert_says(&night, &["03:10-04:00 c's link: lossy with all 3 others, outgoing"]);
}

#[test]
fn a_restart_of_an_agent_does_not_break_a_line() {
    let mut night = Night::new(&NODES);
    night.says("a", "b", "03:10", "04:00", down(FailureReason::Refused));
    night.cut("a", "03:30", "03:45");
    assert_says(&night, &["03:10-04:00 ! a → b: down (refused)"]);
    // Twenty minutes are too long to take it for granted.
    night.cut("a", "03:30", "03:50");
    assert_says(
        &night,
        &["03:10-03:30 ! a → b: down (refused)", "03:50-04:00 ! a → b: down (refused)"],
    );
}

#[test]
fn a_node_that_remembers_later_breaks_lines() {
    // No row is missing that was there before: what a says in between counts.
    let mut night = Night::new(&NODES);
    night.says("a", "b", "03:10", "03:15", down(FailureReason::Refused));
    night.says("a", "b", "03:20", "03:25", down(FailureReason::Refused));
    night.cut("b", "00:00", "12:00");
    let line = "! a → b: down (refused)";
    assert_says(&night, &[&format!("03:10-03:15 {line}"), &format!("03:20-03:25 {line}")]);
}

#[test]
fn a_clock_an_hour_off_shifts_only_what_its_node_says() {
    let mut night = Night::new(&NODES);
    night.says("d", "b", "03:10", "03:15", down(FailureReason::Refused));
    night.says("a", "b", "05:10", "05:15", down(FailureReason::Refused));
    night.shift("d", 3600);
    let lines = ["04:10-04:15 ! d → b: down (refused)", "05:10-05:15 ! a → b: down (refused)"];
    assert_says(&night, &lines);
    let day = day_of(&night, "a");
    assert_eq!([day.bins[0].pairs, day.bins[12].pairs], [9, 12]);
}

#[test]
fn of_two_cells_in_a_bin_the_graver_word_stands() {
    let mut night = Night::new(&NODES);
    night.split("a", "03:12");
    night.says("a", "b", "03:10", "03:12", down(FailureReason::Refused));
    night.says("a", "c", "03:12", "03:15", flaky(FailureReason::Reset));
    night.says("a", "d", "03:12", "03:15", Word::of(Verdict::Draining));
    assert_says(
        &night,
        &["03:10-03:15 ! a → b: down (refused)", "03:10-03:15 a → c: flaky (reset, 3 of 33)"],
    );
    // The clock was set back: this time occurs twice.
    let mut night = Night::new(&NODES);
    night.repeat("a", "03:00", "04:00");
    night.says("a", "b", "03:10", "03:15", down(FailureReason::Refused));
    assert_says(&night, &["03:10-03:15 ! a → b: down (refused) [repeated]"]);
    let repeated = day_of(&night, "a").bins.iter().filter(|bin| bin.is_repeated).count();
    assert_eq!(repeated, 12);
}

#[test]
fn coarse_cells_cover_several_bins() {
    let mut night = Night::new(&NODES);
    for node in NODES {
        night.widen(node, 900);
    }
    night.says("a", "b", "03:15", "03:30", down(FailureReason::Refused));
    assert_says(&night, &["03:15-03:30 ! a → b: down (refused)"]);
    assert_eq!(day_of(&night, "a").bins.len(), 288);
}

#[test]
fn counts_that_differ_do_not_break_a_line() {
    let mut night = Night::new(&NODES);
    let refused = flaky(FailureReason::Refused);
    night.counts(5).says("a", "b", "03:10", "03:15", refused);
    night.says("b", "a", "03:15", "03:20", Word::of(Verdict::OneWay));
    night.counts(7).says("a", "b", "03:20", "03:25", refused);
    let one_way = "03:15-03:20 a → b: one-way; requests no longer arrive";
    let line = |at, count| format!("{at} a → b: flaky (refused, {count} of 33)");
    assert_says(&night, &[&line("03:10-03:15", 5), one_way, &line("03:20-03:25", 7)]);
    // Side by side, they are one run, with the counts of its worst cell.
    night.counts(9).says("a", "b", "03:15", "03:20", refused);
    night.says("b", "a", "03:15", "03:20", Word::of(Verdict::Up));
    assert_says(&night, &[&line("03:10-03:25", 9)]);
}

#[test]
fn the_text_is_that_of_the_bin_in_which_it_explained_most_pairs() {
    for [few, many] in [["03:10", "03:15"], ["03:15", "03:10"]] {
        let mut night = Night::new(&NODES);
        for source in ["a", "b", "d"] {
            night.says(source, "c", "03:10", "03:20", down(FailureReason::Refused));
        }
        let end = if few < many { many } else { "03:20" };
        night.says("d", "c", few, end, Word::of(Verdict::Unknown));
        assert_says(&night, &["03:10-03:20 ! c is down: none of 3 others reaches it (refused)"]);
    }
}

#[test]
fn what_comes_and_goes_all_night_is_one_line() {
    let flapping = |times: u32| {
        let mut night = Night::new(&NODES);
        for time in 0..times {
            let [from, to] = [time, time + 1].map(|hour| format!("{hour:02}:55"));
            night.says("a", "b", &from, &to.replace(":55", ":00"), down(FailureReason::Refused));
        }
        texts(&day_of(&night, "a"))
    };
    let line = "! a → b: down (refused)";
    assert_eq!(flapping(5).len(), 5);
    assert_eq!(flapping(5)[0], format!("00:55-01:00 {line}"));
    assert_eq!(flapping(6), [format!("00:55-06:00 {line} (6 times)")]);
    assert_eq!(flapping(23), [format!("00:55-23:00 {line} (23 times)")]);
}

#[test]
fn both_directions_of_a_pair_are_apart_even_if_their_names_are_numbers() {
    let mut night = Night::new(&["1", "2", "3"]);
    night.says("1", "2", "03:10", "03:15", down(FailureReason::Refused));
    night.says("2", "1", "03:15", "03:20", down(FailureReason::Refused));
    let lines = ["03:10-03:15 ! 1 → 2: down (refused)", "03:15-03:20 ! 2 → 1: down (refused)"];
    assert_eq!(texts(&day_of(&night, "3")), lines);
}

#[test]
fn bins_are_judged_from_the_newest_on_while_there_is_time() {
    let mut night = Night::new(&NODES);
    night.says("a", "b", "03:10", "03:20", down(FailureReason::Refused));
    night.says("a", "c", "20:00", "21:00", down(FailureReason::Refused));
    night.says("a", "d", "22:00", "22:05", down(FailureReason::Refused));
    let mesh = night.mesh("a");
    let judged = |budget: u32| {
        let mut asked = 0;
        let day = Day::of(&mesh, night.now(), &mut || {
            asked += 1;
            asked <= budget
        });
        let since = day.judged_since.map(|since| (since - T0) / 60);
        (texts(&day).len(), asked, since)
    };
    // Twelve equal bins are one question.
    assert_eq!(judged(3), (3, 3, None));
    assert_eq!(judged(2), (2, 3, Some(3 * 60 + 20)));
    assert_eq!(judged(0), (0, 1, Some(22 * 60 + 5)));
}

#[test]
fn what_rests_for_a_survey_or_is_unknown_is_no_fault() {
    let mut night = Night::new(&NODES);
    let surveyed = Word { is_surveyed: true, ..Word::of(Verdict::Unknown) };
    night.says("a", "b", "03:10", "04:10", surveyed);
    night.says("a", "c", "03:10", "04:10", Word::of(Verdict::Unknown));
    night.says("a", "d", "03:10", "04:10", Word::of(Verdict::Draining));
    night.empty("b", "c", "03:10", "04:10");
    assert_says(&night, &[]);
    let bin = day_of(&night, "a").bins[40];
    assert_eq!((bin.pairs, bin.faulty), (11, [0; 5]));
}

#[test]
fn handshakes_in_place_of_peers_are_told() {
    let mut night = Night::new(&NODES);
    for peer in ["b", "c", "d"] {
        let intercepted = Word { is_intercepted: true, ..Word::of(Verdict::Up) };
        night.says("a", peer, "03:10", "03:15", intercepted);
    }
    let text = "03:10-03:15 something between a and its peers answers handshakes in their place";
    assert_says(&night, &[text]);
}

#[test]
fn each_verdict_is_counted_for_itself() {
    let mut night = Night::new(&NODES);
    night.says("a", "b", "03:10", "03:15", down(FailureReason::Refused));
    night.says("a", "c", "03:10", "03:15", Word::of(Verdict::OneWay));
    for (target, word) in [
        ("a", flaky(FailureReason::Reset)),
        ("c", Word { losses: [7, 0], ..Word::of(Verdict::Lossy) }),
        ("d", Word::of(Verdict::Mtu(Direction::Both))),
    ] {
        night.says("b", target, "03:10", "03:15", word);
    }
    assert_eq!(day_of(&night, "a").bins[38].faulty, [1; 5]);
}

#[test]
fn nodes_that_tell_nothing_are_listed_and_judged_by_the_others() {
    let mut night = Night::new(&NODES);
    night.says("a", "c", "03:10", "03:15", down(FailureReason::Refused));
    night.says("b", "c", "03:10", "03:15", down(FailureReason::Refused));
    let mut mesh = night.mesh("a");
    let missing = [("c", RowError::Busy), ("d", RowError::NotRemembered)]
        .map(|(name, error)| (NodeName::new(name).unwrap(), error));
    for (node, error) in &missing {
        mesh.add(node, Err(*error));
    }
    let day = Day::of(&mesh, night.now(), &mut || true);
    assert_eq!(day.missing, missing);
    assert_eq!(texts(&day), ["03:10-03:15 ! c is down: none of 2 others reaches it (refused)"]);
    assert_eq!(day.bins[0].pairs, 6);
    // A row that comes later takes the place of the error.
    mesh.add(&missing[1].0, Ok(Faults::of(&night.recollection("d"))));
    assert_eq!(Day::of(&mesh, night.now(), &mut || true).missing, missing[..1]);
}
