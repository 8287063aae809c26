//! A recorded night with three faults, as the agents of a mesh remember it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wylis::experiment::HostState;
use wylis::history::{BIN, Cell, CellTime, DAY, Recollection, Span, Summary, Word, encode};
use wylis::name::NodeName;
use wylis::probe::FailureReason;
use wylis::state::{Incoming, Moment, Verdict};

/// The time when the night is looked at, and those of the faults: hours and minutes of a zone in which it is
/// morning now.
const MORNING: i64 = 8;
const LOSS: [u64; 2] = [at(1, 40), at(2, 25)];
const DEAD: [u64; 2] = [at(3, 10), at(3, 25)];
const SPLIT: [u64; 2] = [at(5, 35), at(5, 45)];

const fn at(hour: u64, minute: u64) -> u64 {
    60 * (60 * hour + minute)
}

/// Nodes, each with the one-way delay to the others in milliseconds, and the night before now.
pub(crate) struct Night {
    now: u64,
    nodes: Vec<(String, f64)>,
}

impl Night {
    pub(crate) fn before_now(nodes: &[(&str, f64)]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let nodes = nodes.iter().map(|(name, delay)| ((*name).to_owned(), *delay)).collect();
        Self { now, nodes }
    }

    /// Hours that the zone is ahead of UTC.
    fn ahead(&self) -> i64 {
        let hour = i64::try_from(self.now / 3600 % 24).unwrap();
        (MORNING - hour + 36) % 24 - 12
    }

    /// The zone, as a browser names it: with the sign reversed.
    pub(crate) fn zone(&self) -> String {
        format!("Etc/GMT{:+}", -self.ahead())
    }

    /// The Unix time of a time of the night, in seconds.
    fn unix(&self, time: u64) -> u64 {
        let ahead = 3600 * self.ahead();
        let midnight = self.now - self.now.saturating_add_signed(ahead) % DAY;
        midnight + time
    }

    /// When the second fault begins, in Unix seconds.
    pub(crate) fn dead_from(&self) -> u64 {
        self.unix(DEAD[0])
    }

    /// The file in which the agent of a node remembers it.
    pub(crate) fn file(&self, node: &str) -> Vec<u8> {
        let own = self.nodes.iter().position(|(name, _)| name == node).unwrap();
        let peers: Vec<usize> = (0..self.nodes.len()).filter(|peer| *peer != own).collect();
        let edge = (self.now / BIN + 1) * BIN;
        let span = |from: u64| {
            let time = CellTime { from, seconds: u32::try_from(BIN).unwrap(), is_repeated: false };
            let cells = peers.iter().map(|peer| self.cell(own, *peer, from)).collect();
            Span { time, cells }
        };
        // The host of fra-2 is off meanwhile.
        let is_running = |from: &u64| node != "fra-2" || !self.is_within(*from, DEAD);
        let (first, steps) = (edge - DAY, usize::try_from(BIN).unwrap());
        let names = peers.iter().map(|peer| NodeName::new(&self.nodes[*peer].0).ok());
        let recollection = Recollection {
            taken: Moment {
                instant: Instant::now(),
                wall: UNIX_EPOCH + Duration::from_secs(self.now),
            },
            names: Arc::new(names.collect()),
            spans: (first..edge).step_by(steps).filter(is_running).map(span).collect(),
            changes: Vec::new(),
        };
        let mut file = Vec::new();
        encode(&NodeName::new(node).unwrap(), &recollection, &mut file).unwrap();
        file
    }

    fn is_within(&self, second: u64, times: [u64; 2]) -> bool {
        (self.unix(times[0])..self.unix(times[1])).contains(&second)
    }

    fn cell(&self, source: usize, target: usize, from: u64) -> Cell {
        let is = |times| self.is_within(from, times);
        let pair = |one: usize| self.nodes[one].0.as_str();
        let (from_node, to_node) = (pair(source), pair(target));
        let is_ash = |name: &str| name.starts_with("ash");
        let down = |incoming, host| Word {
            incoming: Some(incoming),
            host,
            ..Word::of(Verdict::Down(FailureReason::ConnectTimeout))
        };
        let (word, failures, retransmits) = if is(DEAD) && to_node == "fra-2" {
            (down(Incoming::Nothing, Some(HostState::Silent)), 30, 0)
        } else if is(SPLIT) && is_ash(from_node) != is_ash(to_node) {
            (down(Incoming::Nothing, None), 30, 0)
        } else if is(LOSS) && (from_node, to_node) == ("sin-1", "hel-2") {
            (Word { losses: [5, 0], ..Word::of(Verdict::Lossy) }, 0, 9)
        } else {
            (Word::of(Verdict::Up), 0, 0)
        };
        let site = |node: usize| self.nodes[node].0.split('-').next();
        let is_far = site(source) != site(target);
        // Of a probe, which takes two round trips.
        let delay = 0.8 + f64::from(is_far) * 4.0 * (self.nodes[source].1 + self.nodes[target].1);
        // The same in each run, and different in each cell.
        let noise = (from / BIN * 31 + (source * 7 + target) as u64 * 17) % 97;
        let median = delay * (1.0 + 0.001 * noise as f64) / 1000.0;
        let worst = median * if noise < 3 { 4.0 } else { 1.2 + 0.01 * noise as f64 };
        let time = |seconds: f64| (failures < 30).then(|| Duration::from_secs_f64(seconds));
        let summary = Summary {
            word,
            probes: 30,
            failures,
            retransmits,
            median: time(median),
            worst: time(worst),
        };
        Cell::new(summary)
    }
}
