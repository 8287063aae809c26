//! The commands of a survey, as the value of the private header of a POST, and the report of a trial. Both are
//! words and `key=value` between spaces. Readers ignore keys that they do not know.

use std::time::Duration;

use super::{
    Attempt, Coldness, MAX_GAP, MAX_GAPS, MIN_GAP, Mark, PairResult, Plan, Targets, Trial,
    TrialReport,
};
use crate::name::NodeName;
use crate::probe::{Direction, FailureReason};
use crate::sort::sort;

/// Longest command, and longest report.
pub const MAX_COMMAND: usize = 1024;
/// The longest time that a peer is asked to rest: the longest gap, its trial, and what may come in between.
const MAX_REST: Duration = Duration::from_secs(700);
/// The longest claim; it is renewed each minute.
const MAX_CLAIM: Duration = Duration::from_secs(600);
/// The longest time of one connection.
const MAX_CONNECT: Duration = Duration::from_secs(60);
/// Most warm connections of a report.
const MAX_WARM: usize = 16;

/// What is asked of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// From this host only: begin a survey.
    Start(Targets, Plan),
    /// From this host only: end the survey.
    Stop,
    /// From a peer: it coordinates a survey for so long at least, so that no other may begin.
    Claim(Duration),
    /// From the coordinator: survey the pair with this peer.
    Pair(NodeName, Plan),
    /// From a surveyor: send it nothing for so long at most, or until [`Command::End`].
    Rest(Duration),
    /// From a surveyor: silence begins now.
    Begin(Trial),
    /// From a surveyor: what the trial found in which the peer spoke first. The answer's text is
    /// [`TrialReport::render`].
    Report,
    /// From a surveyor, with the result as the surveyor sees it, or from the coordinator without: it is over;
    /// probe again.
    End(Option<PairResult>),
}

impl Command {
    /// The value of the header; too long a one has more than [`MAX_COMMAND`] bytes.
    #[must_use]
    pub fn render(&self) -> String {
        match self {
            Self::Start(Targets::Mesh, plan) => format!("start all{}", render_plan(plan)),
            Self::Start(Targets::Peers(peers), plan) => {
                let names: Vec<&str> = peers.iter().map(NodeName::as_str).collect();
                format!("start to={}{}", names.join(","), render_plan(plan))
            }
            Self::Stop => "stop".to_owned(),
            Self::Claim(time) => format!("claim for={}", seconds(*time)),
            Self::Pair(target, plan) => format!("pair target={target}{}", render_plan(plan)),
            Self::Rest(time) => format!("rest for={}", seconds(*time)),
            Self::Begin(Trial { gap, direction }) => {
                format!("begin gap={} direction={direction}", seconds(*gap))
            }
            Self::Report => "report".to_owned(),
            Self::End(None) => "end".to_owned(),
            Self::End(Some(PairResult { outgoing, incoming })) => {
                format!(
                    "end outgoing={} incoming={}",
                    render_coldness(outgoing),
                    render_coldness(incoming)
                )
            }
        }
    }

    /// Reads the value of the header; `None` if it is malformed or outside its bounds.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (verb, fields) = Fields::read(text)?;
        Some(match verb {
            "start" => Self::Start(fields.targets()?, fields.plan()?),
            "stop" => Self::Stop,
            "claim" => Self::Claim(fields.time("for", MIN_GAP, MAX_CLAIM)?),
            "pair" => Self::Pair(NodeName::new(fields.get("target")?).ok()?, fields.plan()?),
            "rest" => Self::Rest(fields.time("for", MIN_GAP, MAX_REST)?),
            "begin" => Self::Begin(Trial {
                gap: fields.time("gap", MIN_GAP, MAX_GAP)?,
                direction: read_direction(fields.get("direction")?)?,
            }),
            "report" => Self::Report,
            "end" => Self::End(match (fields.get("outgoing"), fields.get("incoming")) {
                (None, None) => None,
                (outgoing, incoming) => Some(PairResult {
                    outgoing: read_coldness(outgoing?)?,
                    incoming: read_coldness(incoming?)?,
                }),
            }),
            _ => return None,
        })
    }
}

impl TrialReport {
    /// The report as text.
    #[must_use]
    pub fn render(&self) -> String {
        let warm: Vec<String> = self.warm.iter().map(render_attempt).collect();
        let (gap, first) = (seconds(self.gap), render_attempt(&self.first));
        let disturbed = if self.disturbed { " disturbed" } else { "" };
        format!("trial gap={gap} first={first} warm={}{disturbed}", warm.join("/"))
    }

    /// Reads a report; `None` if it is malformed or outside its bounds.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (verb, fields) = Fields::read(text)?;
        let warm = fields.get("warm")?;
        let attempts = warm.split('/').filter(|_| !warm.is_empty());
        let report = Self {
            gap: fields.time("gap", Duration::ZERO, MAX_REST)?,
            first: read_attempt(fields.get("first")?)?,
            warm: attempts.map(read_attempt).collect::<Option<_>>()?,
            disturbed: fields.get("disturbed").is_some(),
        };
        (verb == "trial" && report.warm.len() <= MAX_WARM).then_some(report)
    }
}

/// What follows the first word.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    /// The first word, and the others. No key occurs twice.
    fn read(text: &'a str) -> Option<(&'a str, Self)> {
        let mut words = text.split(' ').filter(|_| text.len() <= MAX_COMMAND);
        let verb = words.next()?;
        let mut fields = Vec::new();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            if key.is_empty() || fields.iter().any(|(known, _)| *known == key) {
                return None;
            }
            fields.push((key, value));
        }
        Some((verb, Self(fields)))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    fn time(&self, key: &str, min: Duration, max: Duration) -> Option<Duration> {
        read_time(self.get(key)?, min, max)
    }

    fn plan(&self) -> Option<Plan> {
        let gaps = self.get("gaps")?.split(',').take(MAX_GAPS + 1);
        let gaps = gaps.map(read_seconds).collect::<Option<_>>()?;
        Plan::new(gaps, read_seconds(self.get("budget")?)?)
    }

    fn targets(&self) -> Option<Targets> {
        match (self.get("all"), self.get("to")) {
            (Some(""), None) => Some(Targets::Mesh),
            (None, Some(names)) => {
                let names = names.split(',').map(|name| NodeName::new(name).ok());
                let mut names: Vec<NodeName> = names.collect::<Option<_>>()?;
                sort(&mut names);
                names.dedup();
                Some(Targets::Peers(names))
            }
            _ => None,
        }
    }
}

fn render_plan(plan: &Plan) -> String {
    let gaps: Vec<String> = plan.gaps().iter().map(|gap| seconds(*gap)).collect();
    format!(" gaps={} budget={}", gaps.join(","), seconds(plan.budget()))
}

/// Seconds, to the microsecond.
fn seconds(time: Duration) -> String {
    let text = format!("{}.{:06}", time.as_secs(), time.subsec_micros());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn read_seconds(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.len() > 6 || part.len() > 6 {
        return None;
    }
    let mut micros: u32 = part.parse().ok()?;
    for _ in part.len()..6 {
        micros *= 10;
    }
    Some(Duration::new(whole.parse().ok()?, micros * 1000))
}

fn read_time(text: &str, min: Duration, max: Duration) -> Option<Duration> {
    read_seconds(text).filter(|time| (min..=max).contains(time))
}

fn read_direction(text: &str) -> Option<Direction> {
    [Direction::Outgoing, Direction::Incoming].into_iter().find(|one| one.as_str() == text)
}

/// `CONNECT,RETRANSMITS,RTT`, with a failure reason for the first, or `-` for no round-trip time.
fn render_attempt(attempt: &Attempt) -> String {
    let connect = attempt.connect.map_or_else(|reason| reason.as_str().to_owned(), seconds);
    let rtt = attempt.rtt.map_or_else(|| "-".to_owned(), seconds);
    format!("{connect},{},{rtt}", attempt.syn_retransmits)
}

fn read_attempt(text: &str) -> Option<Attempt> {
    let mut parts = text.split(',');
    let connect = parts.next()?;
    let connect = match FailureReason::ALL.into_iter().find(|reason| reason.as_str() == connect) {
        Some(reason) => Err(reason),
        None => Ok(read_time(connect, Duration::ZERO, MAX_CONNECT)?),
    };
    let syn_retransmits = parts.next()?.parse().ok()?;
    let rtt = match parts.next()? {
        "-" => None,
        rtt => Some(read_time(rtt, Duration::ZERO, MAX_CONNECT)?),
    };
    parts.next().is_none().then_some(Attempt { connect, syn_retransmits, rtt })
}

/// `WORD,GAP,WARM,LATE,MARKED,TRIALS` of a cold one, `warm,GAP`, or a word.
fn render_coldness(coldness: &Coldness) -> String {
    match coldness {
        Coldness::NotSurveyed => "not_surveyed".to_owned(),
        Coldness::Unproven => "unproven".to_owned(),
        Coldness::WarmAt(gap) => format!("warm,{}", seconds(*gap)),
        Coldness::After { gap, warm, mark, marked, trials } => {
            let (word, late) = match mark {
                Mark::Lost(late) => ("lost", *late),
                Mark::Late(late) => ("late", Some(*late)),
                Mark::Refused | Mark::Warm | Mark::Unproven => ("refused", None),
            };
            let late = late.map_or_else(|| "-".to_owned(), seconds);
            format!("{word},{},{},{late},{marked},{trials}", seconds(*gap), seconds(*warm))
        }
    }
}

fn read_coldness(text: &str) -> Option<Coldness> {
    let parts: Vec<&str> = text.split(',').take(7).collect();
    Some(match parts.as_slice() {
        ["not_surveyed"] => Coldness::NotSurveyed,
        ["unproven"] => Coldness::Unproven,
        ["warm", gap] => Coldness::WarmAt(read_time(gap, Duration::ZERO, MAX_REST)?),
        [word, gap, warm, late, marked, trials] => {
            let late = match *late {
                "-" => None,
                late => Some(read_time(late, Duration::ZERO, MAX_CONNECT)?),
            };
            let mark = match (*word, late) {
                ("lost", late) => Mark::Lost(late),
                ("late", Some(late)) => Mark::Late(late),
                ("refused", None) => Mark::Refused,
                _ => return None,
            };
            let [gap, warm] = [gap, warm].map(|text| read_time(text, Duration::ZERO, MAX_REST));
            Coldness::after(gap?, warm?, mark, marked.parse().ok()?, trials.parse().ok()?)?
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
