//! `/api/v1/survey`: how far the survey of this agent is, and what it found.

use std::time::Duration;

use serde::Serialize;

use super::{ReadError, VERSION, duration, json, millis, of_text, optional, read, unix_seconds};
use crate::bounded_list::BoundedList;
use crate::name::NodeName;
use crate::probe::Direction;
use crate::survey::{
    Coldness, MAX_GAPS, MAX_RESULTS, Mark, PairNow, PairReport, PairResult, Plan, REMARKS, State,
    Status, Trial, has_result, recommendation,
};

/// Longest reason, in characters.
const MAX_REASON: usize = 200;

#[derive(Serialize)]
struct SurveyDocument<'a> {
    version: u32,
    node: &'a str,
    at: f64,
    survey: SurveyFields<'a>,
}

#[derive(Serialize)]
struct SurveyFields<'a> {
    state: &'static str,
    reason: Option<String>,
    coordinator: Option<&'a str>,
    started: Option<f64>,
    end: Option<f64>,
    budget_seconds: Option<f64>,
    gaps_seconds: Vec<f64>,
    pairs: usize,
    now: Vec<NowFields<'a>>,
    results: Vec<ResultFields<'a>>,
    interval_seconds: Option<f64>,
    recommendation: Option<String>,
    remarks: &'static [&'static str],
}

#[derive(Serialize)]
struct NowFields<'a> {
    source: &'a str,
    target: &'a str,
    gap_seconds: Option<f64>,
    direction: Option<&'static str>,
    trials: u16,
}

#[derive(Serialize)]
struct ResultFields<'a> {
    source: &'a str,
    target: &'a str,
    at: f64,
    outgoing: DirectionFields,
    incoming: DirectionFields,
}

/// The result of a pair, as the field `survey` of a peer.
#[derive(Serialize)]
pub struct PeerSurvey {
    at: f64,
    outgoing: DirectionFields,
    incoming: DirectionFields,
}

/// The result of one direction; absent fields do not apply.
#[derive(Serialize)]
struct DirectionFields {
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warm_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    late_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marked: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trials: Option<u8>,
    text: String,
}

impl PeerSurvey {
    /// `at` in Unix milliseconds.
    #[must_use]
    pub fn new(result: &PairResult, at: u64) -> Self {
        let [outgoing, incoming] = [result.outgoing, result.incoming].map(DirectionFields::new);
        Self { at: unix_seconds(at), outgoing, incoming }
    }
}

impl DirectionFields {
    fn new(coldness: Coldness) -> Self {
        let (result, text) = (coldness.as_str(), coldness.text());
        let mut fields = Self {
            result,
            gap_seconds: None,
            warm_seconds: None,
            late_seconds: None,
            marked: None,
            trials: None,
            text,
        };
        match coldness {
            Coldness::NotSurveyed | Coldness::Unproven => {}
            Coldness::WarmAt(gap) => fields.gap_seconds = Some(gap.as_secs_f64()),
            Coldness::After { gap, warm, mark, marked, trials } => {
                let late = match mark {
                    Mark::Lost(late) => late,
                    Mark::Late(late) => Some(late),
                    Mark::Refused | Mark::Warm | Mark::Unproven => None,
                };
                fields.gap_seconds = Some(gap.as_secs_f64());
                fields.warm_seconds = Some(warm.as_secs_f64());
                fields.late_seconds = late.map(|late| late.as_secs_f64());
                (fields.marked, fields.trials) = (Some(marked), Some(trials));
            }
        }
        fields
    }
}

impl<'a> NowFields<'a> {
    fn new(pair: &'a PairNow) -> Self {
        let PairNow { source, target, trial, trials } = pair;
        Self {
            source: source.as_str(),
            target: target.as_str(),
            gap_seconds: trial.map(|trial| trial.gap.as_secs_f64()),
            direction: trial.map(|trial| trial.direction.as_str()),
            trials: *trials,
        }
    }
}

impl<'a> ResultFields<'a> {
    fn new(report: &'a PairReport) -> Self {
        let PairReport { source, target, at, result } = report;
        let PeerSurvey { at, outgoing, incoming } = PeerSurvey::new(result, *at);
        Self { source: source.as_str(), target: target.as_str(), at, outgoing, incoming }
    }
}

/// The document of `node`; `at` in Unix milliseconds.
#[must_use]
pub fn survey_json(node: &NodeName, at: u64, status: &Status) -> Vec<u8> {
    let recommendation = recommendation(&status.results);
    let plan = status.plan.as_ref();
    let survey = SurveyFields {
        state: status.state.as_str(),
        reason: status.reason.as_deref().map(plain),
        coordinator: status.coordinator.as_ref().map(NodeName::as_str),
        started: status.started.map(unix_seconds),
        end: status.end.map(unix_seconds),
        budget_seconds: plan.map(|plan| plan.budget().as_secs_f64()),
        gaps_seconds: plan.map_or(&[][..], Plan::gaps).iter().map(Duration::as_secs_f64).collect(),
        pairs: status.pairs,
        now: status.now.iter().map(NowFields::new).collect(),
        results: status.results.iter().map(ResultFields::new).collect(),
        interval_seconds: recommendation
            .as_ref()
            .and_then(|(interval, _)| *interval)
            .map(|one| one.as_secs_f64()),
        recommendation: recommendation.map(|(_, text)| text),
        remarks: if status.results.iter().any(has_result) { &REMARKS } else { &[] },
    };
    let mut document = json(&SurveyDocument {
        version: VERSION,
        node: node.as_str(),
        at: unix_seconds(at),
        survey,
    });
    document.push(b'\n');
    document
}

/// A reason as every reader takes it: bounded, and without what JSON escapes.
fn plain(reason: &str) -> String {
    let is_plain = |letter: &char| !letter.is_control() && !matches!(letter, '"' | '\\');
    reason.chars().filter(is_plain).take(MAX_REASON).collect()
}

/// The fields that are read; the others follow from these.
pub(super) struct SurveyInput<'a> {
    state: &'a str,
    reason: Option<&'a str>,
    coordinator: Option<&'a str>,
    started: Option<f64>,
    end: Option<f64>,
    budget_seconds: Option<f64>,
    gaps_seconds: BoundedList<f64, MAX_GAPS>,
    pairs: usize,
    now: BoundedList<NowInput<'a>, MAX_RESULTS>,
    results: BoundedList<ResultInput<'a>, MAX_RESULTS>,
}

read_object!(
    SurveyInput<'de>,
    required: [state, gaps_seconds, pairs, now, results],
    optional: [reason, coordinator, started, end, budget_seconds]
);

struct NowInput<'a> {
    source: &'a str,
    target: &'a str,
    gap_seconds: Option<f64>,
    direction: Option<&'a str>,
    trials: u16,
}

read_object!(NowInput<'de>, required: [source, target, trials], optional: [gap_seconds, direction]);

struct ResultInput<'a> {
    source: &'a str,
    target: &'a str,
    at: f64,
    outgoing: DirectionInput<'a>,
    incoming: DirectionInput<'a>,
}

read_object!(ResultInput<'de>, required: [source, target, at, outgoing, incoming], optional: []);

struct DirectionInput<'a> {
    result: &'a str,
    gap_seconds: Option<f64>,
    warm_seconds: Option<f64>,
    late_seconds: Option<f64>,
    marked: Option<u8>,
    trials: Option<u8>,
}

read_object!(
    DirectionInput<'de>,
    required: [result],
    optional: [gap_seconds, warm_seconds, late_seconds, marked, trials]
);

impl SurveyInput<'_> {
    fn status(&self) -> Option<Status> {
        let gaps =
            self.gaps_seconds.0.iter().map(|gap| duration(*gap)).collect::<Option<Vec<_>>>()?;
        let plan = optional(self.budget_seconds, |budget| Plan::new(gaps, duration(budget)?))?;
        Some(Status {
            state: of_text(State::ALL, State::as_str, self.state)?,
            reason: self.reason.map(plain),
            coordinator: optional(self.coordinator, |name| NodeName::new(name).ok())?,
            started: optional(self.started, millis)?,
            end: optional(self.end, millis)?,
            plan,
            pairs: self.pairs,
            now: self.now.0.iter().map(NowInput::pair).collect::<Option<_>>()?,
            results: self.results.0.iter().map(ResultInput::report).collect::<Option<_>>()?,
        })
    }
}

impl NowInput<'_> {
    fn pair(&self) -> Option<PairNow> {
        let trial = optional(self.gap_seconds.zip(self.direction), |(gap, direction)| {
            Some(Trial {
                gap: duration(gap)?,
                direction: of_text(Direction::ALL, Direction::as_str, direction)?,
            })
        })?;
        let [source, target] = [self.source, self.target].map(NodeName::new);
        Some(PairNow { source: source.ok()?, target: target.ok()?, trial, trials: self.trials })
    }
}

impl ResultInput<'_> {
    fn report(&self) -> Option<PairReport> {
        let result =
            PairResult { outgoing: self.outgoing.coldness()?, incoming: self.incoming.coldness()? };
        let [source, target] = [self.source, self.target].map(NodeName::new);
        Some(PairReport {
            source: source.ok()?,
            target: target.ok()?,
            at: millis(self.at)?,
            result,
        })
    }
}

impl DirectionInput<'_> {
    fn coldness(&self) -> Option<Coldness> {
        let late = optional(self.late_seconds, duration)?;
        let mark = match self.result {
            "not_surveyed" => return Some(Coldness::NotSurveyed),
            "unproven" => return Some(Coldness::Unproven),
            "warm" => return Some(Coldness::WarmAt(duration(self.gap_seconds?)?)),
            "cold" => Mark::Lost(late),
            "late" => Mark::Late(late?),
            "refused" => Mark::Refused,
            _ => return None,
        };
        let [gap, warm] = [self.gap_seconds?, self.warm_seconds?].map(duration);
        Coldness::after(gap?, warm?, mark, self.marked?, self.trials?)
    }
}

/// Reads the document.
///
/// # Errors
/// When it is malformed or of another version.
pub fn read_survey(document: &[u8]) -> Result<(NodeName, Status), ReadError> {
    let document = read(document)?;
    let survey = || Some((NodeName::new(document.node).ok()?, document.survey?.status()?));
    survey().ok_or(ReadError::Malformed)
}

#[cfg(test)]
mod tests;
