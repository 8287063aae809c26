use std::time::{Instant, SystemTime};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::probe::{Direction, FailureReason};
use crate::state::Verdict;

/// 2026-11-30 03:12:30 UTC.
const NOW: u64 = 1_796_008_350;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn moment(unix_seconds: u64) -> Moment {
    let wall = UNIX_EPOCH + Duration::from_secs(unix_seconds);
    Moment { instant: Instant::now(), wall }
}

fn file_of(recollection: &Recollection) -> Vec<u8> {
    let mut file = Vec::new();
    encode(&name("a"), recollection, &mut file).unwrap();
    file
}

/// All that a file holds.
fn parts(of: &Recollection) -> (SystemTime, &Vec<Option<NodeName>>, &[Span], &[VerdictChange]) {
    (of.taken.wall, &of.names, &of.spans, &of.changes)
}

/// A day of cells of `paths` paths, all different, and as many changes as are remembered.
fn full_day(paths: usize, times: usize, seconds: u32) -> Recollection {
    let names = (0..paths).map(|path| Some(name(&format!("node-{path:04}.example.org")))).collect();
    let span = |number: usize| {
        let word = Word::of(Verdict::Up).octet();
        let cell = |path: usize| {
            let [.., high, low] = (number * paths + path).to_be_bytes();
            Cell::from_octets([word, high, low, high, low]).unwrap()
        };
        let from = NOW - (times - number) as u64 * u64::from(seconds);
        let time = CellTime { from, seconds, is_repeated: false };
        Span { time, cells: (0..paths).map(cell).collect() }
    };
    let change = |number: u64| VerdictChange {
        at: NOW * 1000 + number,
        node: name("node-0007.example.org"),
        verdict: Verdict::Mtu(Direction::Outgoing),
        detail: Some(Detail::Largest(LargestPacket { bytes: 1337, is_exact: true })),
    };
    Recollection {
        taken: moment(NOW),
        names: Arc::new(names),
        spans: (0..times).map(span).collect(),
        changes: (0..MAX_CHANGES as u64).map(change).collect(),
    }
}

#[test]
fn a_day_of_each_size_fits_and_comes_back() {
    for (paths, times, seconds, bytes) in [
        (10, 289, 300, 31_000),
        (100, 289, 300, 163_000),
        (200, 289, 300, 311_000),
        (600, 97, 900, 325_000),
        (1000, 25, 3600, 170_000),
        (MAX_PATHS, 13, 7200, 450_000),
    ] {
        let day = full_day(paths, times, seconds);
        let file = file_of(&day);
        assert!(file.len() < bytes, "{paths} paths: {} bytes", file.len());
        println!("a day of {paths} paths: {} bytes", file.len());
        let read = decode(&name("a"), &file, moment(NOW + 60)).unwrap();
        assert_eq!(parts(&read), parts(&day));
    }
}

#[test]
fn the_longest_file_is_within_its_bound() {
    let longest = |number: usize| name(&format!("{number:0253}"));
    let mut most = full_day(MOST_CELLS / MAX_SPANS, MAX_SPANS, 60);
    most.names = Arc::new((0..MAX_PATHS).map(longest).map(Some).collect());
    most.changes.iter_mut().for_each(|change| change.node = longest(1));
    let mut file = Vec::new();
    encode(&longest(0), &most, &mut file).unwrap();
    let length = f64::from(u32::try_from(file.len()).unwrap());
    assert!(length <= wylis_harness::bounds::worst_case("MAX_HISTORY"), "{length}");
    assert_eq!(parts(&decode(&longest(0), &file, moment(NOW)).unwrap()), parts(&most));
}

#[test]
fn of_more_than_fits_the_oldest_is_left_out() {
    let mut day = full_day(3, MAX_SPANS + 7, 60);
    let change = day.changes[0].clone();
    day.changes.insert(0, VerdictChange { at: 1, ..change });
    let read = decode(&name("a"), &file_of(&day), moment(NOW)).unwrap();
    assert_eq!(read.spans, day.spans[7..]);
    assert_eq!(read.changes, day.changes[1..]);
    // More cells than fit.
    let day = full_day(MAX_PATHS, 20, 7200);
    let read = decode(&name("a"), &file_of(&day), moment(NOW)).unwrap();
    assert_eq!(read.spans, day.spans[20 - MOST_CELLS / MAX_PATHS..]);
}

#[test]
fn what_is_not_for_this_agent_is_refused_in_words() {
    let day = full_day(2, 3, 300);
    let file = file_of(&day);
    let error =
        |own: &str, file: &[u8], now| decode(&name(own), file, now).unwrap_err().to_string();
    let at = moment(NOW);
    assert_eq!(error("b", &file, at), "written by node \"a\"");
    let mut tomorrow = file.clone();
    tomorrow[MAGIC.len()] = 2;
    assert_eq!(error("a", &tomorrow, at), "version 2, expected 1");
    for damaged in [&[][..], b"wylis history", b"{\"format\":1}", &file[..file.len() - 1]] {
        assert_eq!(error("a", damaged, at), "damaged");
    }
    assert!(decode(&name("a"), &file, moment(NOW - 600)).is_ok());
    assert_eq!(error("a", &file, moment(NOW - 601)), "written 601 s in the future");
    assert_eq!(error("a", &file, moment(0)), format!("written {NOW} s in the future"));
}

#[test]
fn the_time_of_the_file_is_kept_and_what_was_later_by_a_wrong_clock_is_left_out() {
    let mut day = full_day(2, 3, 300);
    let wrong = CellTime { from: NOW + 3600, seconds: 300, is_repeated: false };
    let right =
        Span { time: CellTime { is_repeated: true, ..day.spans[2].time }, ..day.spans[2].clone() };
    day.spans.insert(1, Span { time: wrong, ..right.clone() });
    day.spans.push(right);
    let now = moment(NOW + 100);
    let read = decode(&name("a"), &file_of(&day), now).unwrap();
    assert_eq!((read.taken.wall, read.taken.instant), (day.taken.wall, now.instant));
    day.spans.remove(1);
    assert_eq!(read.spans, day.spans);
}

#[test]
fn every_truncated_file_and_every_flipped_bit_is_found() {
    let mut day = full_day(3, 3, 300);
    day.changes.truncate(2);
    let file = file_of(&day);
    for length in 0..file.len() {
        assert_eq!(
            decode(&name("a"), &file[..length], moment(NOW)).err(),
            Some(FileError::Damaged)
        );
    }
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&name("a"), &flipped, moment(NOW)).is_err(), "bit {bit}");
    }
    let longer = [&file[..], &[0]].concat();
    assert!(decode(&name("a"), &longer, moment(NOW)).is_err());
}

/// A file of node `a` with this after its time, and a correct CRC.
fn crafted(rest: &[u8]) -> Vec<u8> {
    let time = (NOW * 1000).to_be_bytes();
    let content = [MAGIC, &[VERSION, 1, b'a'][..], &time, rest].concat();
    let crc = Crc::of(&content).to_be_bytes();
    [content, crc.to_vec()].concat()
}

#[test]
fn lengths_that_lie_are_damage() {
    let none = [0, 0];
    // Begin, length, whether it is repeated, number of cells.
    let span: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0];
    let one = |span: &[u8]| crafted(&[&none[..], &[0, 1], span, &none].concat());
    let reads = |file: &[u8]| decode(&name("a"), file, moment(NOW)).is_ok();
    assert!(reads(&crafted(&[0; 6])));
    assert!(reads(&one(span)));
    let changed = |at: usize, value: u8| {
        let mut span = span.to_vec();
        span[at] = value;
        one(&span)
    };
    let cases = [
        ("names", crafted(&[0xff; 2])),
        ("names that are not there", crafted(&[0x13, 0x88])),
        ("a name that is not there", crafted(&[0, 1, 200])),
        ("more names than fit", crafted(&[&[0x13, 0x89][..], &[0; 5001], &[0; 4]].concat())),
        ("more times than fit", crafted(&[&[0, 0, 2, 89][..], &span.repeat(601), &none].concat())),
        ("times that are not there", crafted(&[0, 0, 2, 88])),
        ("cells that are not there", changed(14, 200)),
        ("more cells than paths", changed(13, 0xff)),
        ("a cell of a year", changed(8, 1)),
        ("a flag", changed(12, 2)),
        ("changes", crafted(&[0, 0, 0, 0, 0xff, 0xff])),
        ("more changes than fit", crafted(&[0, 0, 0, 0, 1, 1])),
        ("more after the end", crafted(&[0; 7])),
        ("less", crafted(&[0; 5])),
    ];
    for (what, file) in cases {
        assert_eq!(
            decode(&name("a"), &file, moment(NOW)).err(),
            Some(FileError::Damaged),
            "{what}"
        );
    }
}

#[test]
fn values_that_no_agent_writes_are_damage() {
    let change = |node: &[u8], word: u8, detail: [u8; 3]| {
        let length = [u8::try_from(node.len()).unwrap()];
        crafted(&[&[0, 0, 0, 0, 0, 1][..], &[0; 8], &length, node, &[word], &detail].concat())
    };
    let reads = |file: &[u8]| decode(&name("a"), file, moment(NOW)).is_ok();
    let up = Word::of(Verdict::Up).octet();
    assert!(reads(&change(b"b", up, [3, 1, 4])));
    assert!(!reads(&change(b"", up, [0; 3])));
    assert!(!reads(&change(b"b c", up, [0; 3])));
    assert!(!reads(&change(b"b\xff", up, [0; 3])));
    assert!(!reads(&change(b"b", 0, [0; 3])));
    assert!(!reads(&change(b"b", up, [6, 0, 0])));
    // A cell whose word is none.
    let span = [&[0; 8][..], &[0, 0, 0, 60, 0, 0, 1]].concat();
    let cell =
        |word: u8| crafted(&[&[0, 0, 0, 1][..], &span, &[word, 0, 0, 0, 0], &[0, 0]].concat());
    assert!(reads(&cell(0)) && reads(&cell(up)));
    if let Some(none) = (1..=255).find(|octet| Word::from_octet(*octet).is_none()) {
        assert!(!reads(&cell(none)));
    }
}

fn any_name() -> impl Strategy<Value = NodeName> {
    "[A-Za-z0-9.-]{1,253}".prop_map(|text| name(&text))
}

fn any_cell() -> impl Strategy<Value = Cell> {
    any::<[u8; Cell::OCTETS]>().prop_map(|octets| Cell::from_octets(octets).unwrap_or(Cell::EMPTY))
}

fn any_span() -> impl Strategy<Value = Span> {
    let time = (0..=NOW, 0..=86_400_u32, any::<bool>());
    let cells = prop::collection::vec(any_cell(), 0..30);
    (time, cells).prop_map(|((from, seconds, is_repeated), cells)| Span {
        time: CellTime { from, seconds, is_repeated },
        cells: cells.into_iter().collect(),
    })
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    let (reasons, directions) = (FailureReason::ALL.into_iter(), Direction::ALL.into_iter());
    let mut all =
        vec![Verdict::Unknown, Verdict::Draining, Verdict::OneWay, Verdict::Lossy, Verdict::Up];
    all.extend(reasons.flat_map(|reason| [Verdict::Down(reason), Verdict::Flaky(reason)]));
    all.extend(directions.map(Verdict::Mtu));
    prop::sample::select(all)
}

fn any_detail() -> impl Strategy<Value = Option<Detail>> {
    let largest = |(bytes, is_exact)| Detail::Largest(LargestPacket { bytes, is_exact });
    prop::option::of(prop_oneof![
        any::<(u16, bool)>().prop_map(largest),
        any::<(u8, u8)>().prop_map(|(dead, flows)| Detail::Flows(DeadFlows { dead, flows })),
        prop::sample::select(HostState::ALL.to_vec()).prop_map(Detail::Host),
    ])
}

fn any_change() -> impl Strategy<Value = VerdictChange> {
    (any::<u64>(), any_name(), any_verdict(), any_detail())
        .prop_map(|(at, node, verdict, detail)| VerdictChange { at, node, verdict, detail })
}

fn any_recollection() -> impl Strategy<Value = Recollection> {
    (
        prop::collection::vec(prop::option::of(any_name()), 0..20),
        prop::collection::vec(any_span(), 0..40),
        prop::collection::vec(any_change(), 0..20),
        0..=NOW * 1000,
    )
        .prop_map(|(names, spans, changes, taken)| Recollection {
            taken: Moment { wall: UNIX_EPOCH + Duration::from_millis(taken), ..moment(0) },
            names: Arc::new(names),
            spans,
            changes,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_recollection_comes_back(one in any_recollection()) {
        let read = decode(&name("a"), &file_of(&one), moment(NOW)).unwrap();
        prop_assert_eq!(parts(&read), parts(&one));
    }

    #[test]
    fn arbitrary_changes_behind_a_correct_crc_are_no_harm(
        one in any_recollection(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..20),
    ) {
        let mut file = file_of(&one);
        file.truncate(file.len() - CRC);
        let start = MAGIC.len() + 1;
        for (at, value) in changes {
            let at = start + at.index(file.len() - start);
            file[at] = value;
        }
        let crc = Crc::of(&file).to_be_bytes();
        file.extend(crc);
        if let Ok(read) = decode(&name("a"), &file, moment(NOW)) {
            // What was read can be written and read again.
            let again = decode(&name("a"), &file_of(&read), moment(NOW)).unwrap();
            prop_assert_eq!(parts(&again), parts(&read));
        }
    }

    #[test]
    fn arbitrary_octets_are_no_harm(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&name("a"), &octets, moment(NOW)).is_err());
        let _ = decode(&name("a"), &crafted(&octets), moment(NOW));
    }
}
