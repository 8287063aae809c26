//! What agents report of a fault that is over: the same sentences as during the fault, in the matrix of the moment
//! and in the day of the mesh.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use wylis_harness::mesh;

use super::table::Case;
use super::trial::Trial;
use super::view::View;
use crate::mesh::node;

/// Longer than a fault takes to be found in all its details: a cell remembers what held longest.
const LASTS: Duration = Duration::from_secs(22);
/// Rows that are missing now are no finding of the past.
const MISSING: &str = "no row from";
/// Limit: until all rows come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);

/// Observes the fault for a while longer. Returns what each agent of the case reports at its end.
pub(super) fn observe_longer(trial: &mut Trial) -> BTreeMap<u8, View> {
    let until = Instant::now() + LASTS;
    while Instant::now() < until {
        trial.observe();
        std::thread::sleep(PAUSE);
    }
    let numbers = trial.case.says.iter().flat_map(|(numbers, _)| numbers.iter().copied());
    let views: BTreeMap<_, _> =
        numbers.map(|number| (number, trial.view(number).clone())).collect();
    // An agent that starts again begins a cell, which must not have the second that is asked for.
    let last = views.values().map(second).max().unwrap_or(0);
    wylis_harness::wait_until(PATIENCE, "the next second", || mesh::now() > last);
    views
}

/// Asserts that each agent reports the same of the past.
pub(super) fn assert_same(trial: &Trial, said: &BTreeMap<u8, View>) {
    for (number, then) in said {
        let deadline = Instant::now() + PATIENCE;
        while let Err(difference) = compare(trial, *number, then) {
            let Case { name, .. } = trial.case;
            assert!(Instant::now() < deadline, "{name}: n{number}: {difference}\n{}", trial.logs());
            std::thread::sleep(PAUSE);
        }
    }
}

fn compare(trial: &Trial, number: u8, then: &View) -> Result<(), String> {
    let agent = trial.mesh.agents.agent(&node(number));
    let document = |path: &str| -> Value {
        serde_json::from_str(&agent.get(path).unwrap_or_default().1).unwrap_or_default()
    };
    let past = View(document(&format!("/api/v1/history/{}", second(then))), String::new());
    let day = document("/api/v1/history/day");
    let lines = day["findings"].as_array().into_iter().flatten();
    let lines: Vec<&str> = lines.filter_map(|line| line["text"].as_str()).collect();
    let (mut texts, found) = (then.texts(), past.texts());
    texts.retain(|text| !text.starts_with(MISSING));
    let in_the_day = texts.iter().all(|text| lines.contains(text));
    if past.0["findings"].is_array() && texts == found && in_the_day {
        return Ok(());
    }
    Err(format!("it said {texts:#?}, and says {found:#?}, of the day {lines:#?}\n{:#}", past.0))
}

/// When a document was collected, in Unix seconds.
fn second(view: &View) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a whole second")]
    let second = view.0["at"].as_f64().unwrap_or_default() as i64;
    second
}
