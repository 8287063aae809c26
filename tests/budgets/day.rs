//! A full day, as an agent remembers it.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use wylis::history::{
    Cell, CellTime, DAY, MAX_CHANGES, Recollection, Span, Summary, VerdictChange, WIDTHS, Word,
    encode,
};
use wylis::name::NodeName;
use wylis::probe::FailureReason;
use wylis::state::{Moment, Verdict};

/// Writes the file of the node `own` into its state directory: a day of all cells of these peers, and all changes.
pub(crate) fn write(state: &Path, own: &str, peers: &[String]) {
    let name = |text: &str| NodeName::new(text).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let fits = |(_, paths): &&(u32, usize)| peers.len() <= *paths;
    let (seconds, _) = WIDTHS.iter().find(fits).unwrap();
    let width = u64::from(*seconds);
    let span = |number: u64| {
        let cell = |path: u32| {
            Cell::new(Summary {
                word: Word::of(Verdict::Up),
                probes: 33,
                failures: (path + u32::try_from(number).unwrap()) % 3,
                retransmits: 1,
                median: None,
                worst: None,
            })
        };
        let time = CellTime {
            from: (now / width - DAY / width + number) * width,
            seconds: *seconds,
            is_repeated: false,
        };
        Span { time, cells: (0_u32..).zip(peers).map(|(path, _)| cell(path)).collect() }
    };
    let change = |number: usize| VerdictChange {
        at: now * 1000,
        node: name(&peers[number % peers.len()]),
        verdict: Verdict::Down(FailureReason::ConnectTimeout),
        detail: None,
    };
    let day = Recollection {
        taken: Moment::now(),
        names: Arc::new(peers.iter().map(|peer| Some(name(peer))).collect()),
        spans: (0..=DAY / width).map(span).collect(),
        changes: (0..MAX_CHANGES).map(change).collect(),
    };
    let mut file = std::fs::File::create(state.join("history")).unwrap();
    encode(&name(own), &day, &mut file).unwrap();
    println!("budget: a day of {} peers: {} bytes", peers.len(), file.metadata().unwrap().len());
}
