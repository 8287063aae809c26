//! The JSON documents of the agents: each writer beside its reader. Pure.
//!
//! | document | route | written from | read by |
//! |---|---|---|---|
//! | `row` | `/api/v1/row` | a snapshot | agents that collect the matrix |
//! | `row` | `/api/v1/past/row/SECONDS` | a recollection | agents that collect a matrix of the past |
//! | `matrix` | `/api/v1/cluster`, `/api/v1/history/SECONDS` | the matrix | `wylis cluster`, the page |
//! | `health` | `/api/v1/health` | the matrix | uptime monitors |
//! | `peers` | `/api/v1/peers` | a snapshot | `wylis peers` |
//! | `peer` | `/api/v1/peers/NODE` | a snapshot | agents that show a pair |
//! | `peer` | `/api/v1/cluster/SOURCE/TARGET` | a peer document | the page |
//! | `history` | `/api/v1/history`, `/api/v1/past/peers/NODE` | what an agent remembers | the page, agents that show a pair |
//! | `history` | `/api/v1/history/SOURCE/TARGET` | that of one peer | the page |
//! | `faults` | `/api/v1/past/faults` | what an agent remembers | agents that collect the day |
//! | `day` | `/api/v1/history/day` | the faults of all nodes | `wylis history`, the page |
//! | `survey` | `/api/v1/survey` | the status of a survey | its coordinator, `wylis survey` |
//! | `probe` | `wylis probe --json` | probes of one agent | scripts |
//!
//! Readers take bytes from the network: they check every field that they know and ignore the others.
//! Writers produce one chunk per row or peer, so that a large cluster costs little memory. Times are
//! Unix seconds, durations seconds, sizes bytes.

/// Implements `Deserialize` for a struct, from an object only: a missing optional field has its
/// default. What serde derives also reads arrays, and adds 7 KB to the binary. A lifetime is `'de`.
macro_rules! read_object {
    ($name:ident $(<$lifetime:lifetime>)?, required: [$($required:ident),*], optional: [$($optional:ident),*]) => {
        impl<'de> serde::Deserialize<'de> for $name $(<$lifetime>)? {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
                struct Object;
                impl<'de> Visitor<'de> for Object {
                    type Value = $name $(<$lifetime>)?;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(
                        self,
                        mut fields: A,
                    ) -> Result<Self::Value, A::Error> {
                        $(let mut $required = None;)*
                        $(let mut $optional = None;)*
                        while let Some(name) = fields.next_key::<&str>()? {
                            let twice = match name {
                                $(stringify!($required) => {
                                    $required.replace(fields.next_value()?).is_some()
                                })*
                                $(stringify!($optional) => {
                                    $optional.replace(fields.next_value()?).is_some()
                                })*
                                _ => fields.next_value::<IgnoredAny>().map(|_| false)?,
                            };
                            if twice {
                                return Err(A::Error::custom("a field occurs twice"));
                            }
                        }
                        let whole = move || {
                            Some($name {
                                $($required: $required?,)*
                                $($optional: $optional.unwrap_or_default(),)*
                            })
                        };
                        whole().ok_or_else(|| A::Error::custom("a field is missing"))
                    }
                }
                input.deserialize_map(Object)
            }
        }
    };
}

mod cell;
mod day;
mod faults;
mod finding;
mod found;
mod health;
mod history;
mod list;
mod matrix;
mod peer;
mod peers;
mod probe;
mod row;
mod survey;

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::matrix::{Past, RowError, unix_millis};
use crate::name::{Instance, NodeName};
use crate::probe::FailureReason;
use crate::state::{Direction, Snapshot, Verdict};
use cell::Cells;
use day::MissingFields;
pub use day::{day_json, read_day};
pub use faults::{MAX_FAULTS, faults_json, read_faults};
use finding::FindingFields;
pub use health::{health_json, health_text};
pub use history::{MAX_PAST_PEER, history_json, past_pair_json, past_peer_json};
use list::{List, Numbers};
use matrix::Rows;
pub use matrix::{matrix_json, read_matrix};
pub use peer::{PeerLine, pair_json, peer_json};
pub use peers::{Peers, peers_json};
pub use probe::{FlowFields, MtuFields, ProbeDocument};
pub use row::{MAX_ROW, past_row_json, read_row, row_json};
use survey::SurveyInput;
pub use survey::{PeerSurvey, read_survey, survey_json};

/// Version of every document. It rises when a field changes its meaning or goes, and with a new
/// verdict, reason, error or kind of finding, since readers refuse words that they do not know.
pub const VERSION: u32 = 1;

/// The latest time that is read, in Unix seconds: the year 9999, which date libraries end with.
const MAX_UNIX: u64 = 253_402_300_799;

/// A document, chunk by chunk.
pub type Chunks = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// Why a document cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// No JSON, a field missing, or a value outside its bounds.
    Malformed,
    /// Another version of the format.
    Version,
    /// The document of another node.
    OtherNode,
}

impl From<ReadError> for RowError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Malformed => Self::Failure(FailureReason::BadResponse),
            ReadError::OtherNode => Self::Failure(FailureReason::WrongPeer),
            ReadError::Version => Self::Unsupported,
        }
    }
}

/// A document as it is read: its head, and the body of its kind. One type for all kinds, since each
/// further type adds 1.5 KB to the binary.
struct Document<'a> {
    version: u32,
    node: &'a str,
    at: f64,
    /// Of a row or a matrix of the past.
    seconds: Option<u32>,
    repeated: bool,
    /// Of a row.
    cells: Option<Cells<'a>>,
    /// Of the document of all peers, and of one peer.
    peers: Option<List<PeerLine>>,
    peer: Option<&'a RawValue>,
    /// Of the matrix.
    duration_seconds: Option<f64>,
    deadline_seconds: Option<f64>,
    nodes: Option<List<&'a str>>,
    findings: Option<List<FindingFields<'a>>>,
    rows: Option<Rows>,
    survey: Option<SurveyInput<'a>>,
    /// Of faults and of a day.
    times: Option<List<Numbers>>,
    runs: Option<List<Numbers>>,
    left_out: usize,
    since: Option<u64>,
    judged_since: Option<u64>,
    missing: Option<List<MissingFields<'a>>>,
}

read_object!(
    Document<'de>,
    required: [version, node, at],
    optional: [
        seconds,
        repeated,
        cells,
        peers,
        peer,
        duration_seconds,
        deadline_seconds,
        nodes,
        findings,
        rows,
        survey,
        times,
        runs,
        left_out,
        since,
        judged_since,
        missing
    ]
);

/// Reads a document. Another version is reported as such, whatever else differs.
fn read(document: &[u8]) -> Result<Document<'_>, ReadError> {
    struct AnyVersion {
        version: u32,
    }
    read_object!(AnyVersion, required: [version], optional: []);
    match serde_json::from_slice::<Document<'_>>(document) {
        Ok(document) if document.version == VERSION => Ok(document),
        _ => match serde_json::from_slice(document) {
            Ok(AnyVersion { version }) if version != VERSION => Err(ReadError::Version),
            _ => Err(ReadError::Malformed),
        },
    }
}

/// The fields that every document of one node begins with.
#[derive(Serialize)]
struct Head<'a> {
    version: u32,
    node: &'a str,
    instance: &'a str,
    at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    incoming_unknown: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    repeated: bool,
}

impl<'a> Head<'a> {
    fn new(node: &'a NodeName, instance: &'a Instance, snapshot: &Snapshot) -> Self {
        Self::at(node, instance, unix_millis(snapshot.taken.wall))
    }

    /// At a time in Unix milliseconds.
    fn at(node: &'a NodeName, instance: &'a Instance, millis: u64) -> Self {
        Self {
            version: VERSION,
            node: node.as_str(),
            instance: instance.as_str(),
            at: unix_seconds(millis),
            incoming_unknown: None,
            seconds: None,
            repeated: false,
        }
    }

    fn of_the_past(self, past: Option<Past>) -> Self {
        let (seconds, repeated) = past_fields(past);
        Self { seconds, repeated, ..self }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How documents say that a row or a matrix is of the past: `seconds` and `repeated`.
fn past_fields(past: Option<Past>) -> (Option<u32>, bool) {
    (past.map(|past| past.seconds), past.is_some_and(|past| past.is_repeated))
}

/// The same as it is read.
fn past(seconds: Option<u32>, is_repeated: bool) -> Option<Past> {
    seconds.map(|seconds| Past { seconds, is_repeated })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with text keys can always be written")
}

/// An object left open, with a further field whose value follows.
fn opening(head: &impl Serialize, field: &str) -> Vec<u8> {
    let mut opening = json(head);
    opening.pop();
    opening.extend_from_slice(b",\"");
    opening.extend_from_slice(field.as_bytes());
    opening.extend_from_slice(b"\":");
    opening
}

/// Puts the fields of `object` behind those of another one.
fn append(document: &mut Vec<u8>, object: &[u8]) {
    document.pop();
    document.push(b',');
    document.extend_from_slice(object.strip_prefix(b"{").unwrap_or_default());
}

/// An object that ends with a list; each item is a chunk, written when its turn comes.
fn list(
    head: &impl Serialize,
    field: &str,
    count: usize,
    item: Box<dyn Fn(usize) -> Vec<u8> + Send>,
) -> Chunks {
    list_after(opening(head, field), count, item)
}

/// A list after an opening.
fn list_after(
    mut opening: Vec<u8>,
    count: usize,
    item: Box<dyn Fn(usize) -> Vec<u8> + Send>,
) -> Chunks {
    opening.push(b'[');
    let items = (0..count).map(move |index| {
        let separator: &[u8] = if index == 0 { b"\n" } else { b",\n" };
        [separator, &item(index)].concat()
    });
    Box::new(std::iter::once(opening).chain(items).chain(std::iter::once(b"\n]}\n".to_vec())))
}

/// The verdict with this text, and this reason or direction where it has one.
fn verdict(word: &str, reason: Option<&str>, direction: Option<&str>) -> Option<Verdict> {
    let plain = [Verdict::Unknown, Verdict::Draining, Verdict::OneWay, Verdict::Lossy, Verdict::Up];
    match plain.into_iter().find(|verdict| verdict.as_str() == word) {
        Some(plain) => Some(plain),
        None => match word {
            "down" => failure_reason(reason?).map(Verdict::Down),
            "flaky" => failure_reason(reason?).map(Verdict::Flaky),
            "mtu" => of_text(Direction::ALL, Direction::as_str, direction?).map(Verdict::Mtu),
            _ => None,
        },
    }
}

/// The value of a closed set with this text.
fn of_text<T: Copy, const N: usize>(
    all: [T; N],
    text: fn(T) -> &'static str,
    word: &str,
) -> Option<T> {
    all.into_iter().find(|value| text(*value) == word)
}

fn failure_reason(word: &str) -> Option<FailureReason> {
    of_text(FailureReason::ALL, FailureReason::as_str, word)
}

/// Seconds as a duration, rounded to the microsecond.
fn duration(seconds: f64) -> Option<Duration> {
    let nanoseconds = Duration::try_from_secs_f64(seconds).ok()?.as_nanos();
    u64::try_from((nanoseconds + 500) / 1000).ok().map(Duration::from_micros)
}

/// Unix seconds as milliseconds.
fn millis(seconds: f64) -> Option<u64> {
    u64::try_from((duration(seconds)?.as_micros() + 500) / 1000).ok()
}

/// Checks a value unless it is missing; `None` if it fails the check.
fn optional<T, U>(value: Option<T>, check: impl FnOnce(T) -> Option<U>) -> Option<Option<U>> {
    match value {
        Some(value) => check(value).map(Some),
        None => Some(None),
    }
}

/// Unix milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
fn unix_seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// Unix seconds to the millisecond: the clock is no finer.
fn unix(at: SystemTime) -> f64 {
    unix_seconds(unix_millis(at))
}

#[cfg(test)]
mod tests;
