//! The flags of `wylis survey`, read together.

use crate::config::{Values, format_duration, parse_duration};
use crate::name::NodeName;
use crate::survey::{Command, MAX_COMMAND, Plan, Targets};

pub(in crate::cli) const TO: &str = "--to";
pub(in crate::cli) const ALL: &str = "--all";
pub(in crate::cli) const GAPS: &str = "--gaps";
pub(in crate::cli) const BUDGET: &str = "--budget";
pub(in crate::cli) const YES: &str = "--yes";
pub(in crate::cli) const STOP: &str = "--stop";

/// What is asked of the survey.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Request {
    Show,
    Stop,
    Start { targets: Targets, plan: Plan, is_confirmed: bool },
}

impl Request {
    /// Reads the flags of the survey, which other commands do not have.
    pub(in crate::cli) fn read(values: &mut Values) -> Self {
        let [to, all, stop] = [TO, ALL, STOP].map(|name| values.get(name).is_some());
        let begins = to || all;
        for name in [GAPS, BUDGET, YES] {
            if !begins && values.get(name).is_some() {
                values.reject(name, None, "needs --to or --all");
            }
        }
        if to && all {
            values.reject(TO, None, "excludes --all");
        }
        if stop && begins {
            values.reject(STOP, None, "excludes --to and --all");
        }
        match (begins, stop) {
            (true, _) => Self::start(values),
            (false, true) => Self::Stop,
            (false, false) => Self::Show,
        }
    }

    fn start(values: &mut Values) -> Self {
        let names = values.optional(TO, "names of nodes, separated by commas", |text| {
            text.split(',').map(|name| NodeName::new(name.trim()).ok()).collect()
        });
        let targets = names.map_or(Targets::Mesh, Targets::Peers);
        let budget = values.duration(BUDGET, 1000, 24 * 3_600_000);
        let expected = "1 to 16 ascending durations from 1s to 10m, such as 10s,30s,60s";
        let plan = values.or_default(GAPS, expected, |text| {
            let gaps = text.split(',').map(|gap| parse_duration(gap.trim()));
            Plan::new(gaps.collect::<Option<_>>()?, budget)
        });
        if budget < plan.least() {
            let text = values.get(BUDGET).map(|(_, text)| text.to_owned());
            let gap = plan.gaps().first().copied().unwrap_or_default();
            let [gap, least] = [gap, plan.least()].map(format_duration);
            let problem = format!("too short for one trial of {gap}, which needs {least}");
            values.reject(BUDGET, text.as_deref(), problem);
        }
        if Command::Start(targets.clone(), plan.clone()).render().len() > MAX_COMMAND {
            values.reject(TO, None, "names too many nodes for one survey; use --all");
        }
        Self::Start { targets, plan, is_confirmed: values.get(YES).is_some() }
    }
}
