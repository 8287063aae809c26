//! `wylis survey`: begins, shows and ends a survey of the agent. The survey belongs to the agent: it goes on without
//! this command.

pub(super) mod request;

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::arguments::Options;
use super::exit::Exit;
use super::{fetch, format_age, print};
use crate::config::SettingError;
use crate::document::{Peers, read_survey};
use crate::name::NodeName;
use crate::probe::Direction;
use crate::state::Verdict;
use crate::survey::{
    Coldness, Command, PairNow, Plan, REMARKS, State, Status, Targets, Tournament, recommendation,
    seconds,
};
use crate::wire::SURVEY_PATH;
use request::Request;

const PEERS_PATH: &str = "/api/v1/peers";
const OK: u16 = 200;
const NOT_YET: u16 = 503;
/// How long a survey waits for an agent that has just started: some probes at the default interval.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

pub(super) fn run(options: &Options) -> Result<Exit, Exit> {
    let addresses = fetch::resolve(&options.target)?;
    match &options.survey {
        Request::Show => {
            let document = fetch::document(&addresses, SURVEY_PATH)?;
            show(document, options.json)
        }
        Request::Stop => {
            let document = command(&addresses, &Command::Stop)?;
            if options.json {
                show(document, true)
            } else {
                print("the survey has ended\n").map(|()| Exit::Healthy)
            }
        }
        Request::Start { targets, plan, is_confirmed } => {
            let (text, missing) = announcement(&addresses, targets, plan)?;
            if let Some(missing) = missing {
                return Err(Exit::Failed(format!("{missing} is no peer of the agent")));
            }
            if !options.json {
                print(&text)?;
            }
            if !is_confirmed {
                confirm()?;
            }
            let begin = Command::Start(targets.clone(), plan.clone());
            let document = wait_and_command(&addresses, &begin, options.json)?;
            if options.json {
                return show(document, true);
            }
            print("the survey has begun; wylis survey shows it\n").map(|()| Exit::Healthy)
        }
    }
}

/// Sends a command, once the agent is ready for it: right after its start, it has to know its peers first.
fn wait_and_command(
    addresses: &[SocketAddr],
    command: &Command,
    silently: bool,
) -> Result<Vec<u8>, Exit> {
    let began = Instant::now();
    let mut told = silently;
    loop {
        let answer = fetch::command(addresses, &command.render())?;
        if answer.0 != NOT_YET || began.elapsed() > PATIENCE {
            return accepted(answer);
        }
        if !std::mem::replace(&mut told, true) {
            print("the agent does not know all its peers yet: waiting\n")?;
        }
        std::thread::sleep(RETRY);
    }
}

fn command(addresses: &[SocketAddr], command: &Command) -> Result<Vec<u8>, Exit> {
    accepted(fetch::command(addresses, &command.render())?)
}

/// The agent's document, or why it refused a command.
fn accepted(answer: (u16, Vec<u8>)) -> Result<Vec<u8>, Exit> {
    match answer {
        (OK, document) => Ok(document),
        (404 | 405, _) => Err(Exit::Failed("an older release without surveys".to_owned())),
        (_, reason) => {
            let reason = String::from_utf8_lossy(&reason);
            let reason: String =
                reason.chars().filter(|letter| !letter.is_control()).take(300).collect();
            Err(Exit::Failed(format!("refused: {reason}")))
        }
    }
}

/// What a survey is going to do, and the first target that the agent does not know.
fn announcement<'a>(
    addresses: &[SocketAddr],
    targets: &'a Targets,
    plan: &Plan,
) -> Result<(String, Option<&'a NodeName>), Exit> {
    let document = fetch::document(addresses, PEERS_PATH)?;
    let peers = Peers::read(&document).map_err(|error| fetch::unreadable(PEERS_PATH, error))?;
    let up = peers.lines.iter().filter(|line| line.verdict == Verdict::Up);
    let names: Vec<NodeName> = up.map(|line| line.node.clone()).collect();
    let known = |name: &&NodeName| !peers.lines.iter().any(|line| line.node == **name);
    let missing = match targets {
        Targets::Peers(targets) => targets.iter().find(known),
        Targets::Mesh => None,
    };
    let tournament = Tournament::new(&peers.node, targets, &names);
    Ok((announce(&peers.node, &tournament, plan), missing))
}

/// What a survey is going to do.
pub(super) fn announce(node: &NodeName, tournament: &Tournament, plan: &Plan) -> String {
    let rounds = u32::try_from(tournament.rounds()).unwrap_or(u32::MAX);
    let expected = plan.pair_time().saturating_mul(rounds);
    let mut text = match tournament.pairs() {
        1 => format!("{node} surveys 1 pair"),
        pairs => format!("{node} surveys {pairs} pairs"),
    };
    put!(text, " of {} nodes, ", tournament.nodes().len());
    if rounds > 1 {
        put!(text, "in {rounds} rounds one after the other, ");
    }
    put!(text, "with gaps of {}: about {}", gaps(plan), age(expected));
    if expected > plan.budget() {
        put!(
            text,
            ", cut off after {}: what is left is reported as not surveyed",
            age(plan.budget())
        );
    }
    text.push_str(
        ".\nWhile a pair rests, its two agents send each other nothing. If only they keep the path warm, the first \
         packets of workloads on it may be lost or late, as without Wylis.\n",
    );
    text
}

/// Asks at the terminal.
fn confirm() -> Result<(), Exit> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        let problem = "is needed where no terminal can be asked".to_owned();
        return Err(Exit::Usage(vec![SettingError {
            name: request::YES.to_owned(),
            value: None,
            problem,
        }]));
    }
    print("Begin? [y/N] ")?;
    let mut answer = String::new();
    // What cannot be read is no consent.
    let _ = input.lock().take(64).read_line(&mut answer);
    if is_consent(&answer) { Ok(()) } else { Err(Exit::Failed("not begun".to_owned())) }
}

pub(super) fn is_consent(answer: &str) -> bool {
    matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}

/// Prints a document; unhealthy when a path goes cold.
fn show(document: Vec<u8>, json: bool) -> Result<Exit, Exit> {
    let (node, status) =
        read_survey(&document).map_err(|error| fetch::unreadable(SURVEY_PATH, error))?;
    if json {
        fetch::print_raw(document)?;
    } else {
        print(&render(&node, &status, now()))?;
    }
    Ok(exit(&status))
}

pub(super) fn exit(status: &Status) -> Exit {
    let cold = recommendation(&status.results).is_some();
    if cold { Exit::Unhealthy } else { Exit::Healthy }
}

/// Unix milliseconds.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn age(time: Duration) -> String {
    format_age(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn gaps(plan: &Plan) -> String {
    let gaps: Vec<String> = plan.gaps().iter().map(|gap| seconds(*gap)).collect();
    gaps.join(", ")
}

/// Renders the progress and the results.
pub(super) fn render(node: &NodeName, status: &Status, now: u64) -> String {
    if status.state == State::Idle {
        return format!("{node}: no survey since the agent started\n");
    }
    let mut text = format!("{node}: survey {}", status.state);
    if let Some(reason) = &status.reason {
        put!(text, " ({reason})");
    }
    put!(text, ", {} of {} pairs", status.results.len(), status.pairs);
    if let Some(started) = status.started {
        put!(text, ", begun {} ago", format_age(now.saturating_sub(started)));
    }
    if let Some(coordinator) = &status.coordinator {
        put!(text, " by {coordinator}");
    }
    if let Some(end) = status.end {
        match status.state {
            State::Running => put!(text, ", ends in about {}", format_age(end.saturating_sub(now))),
            _ => put!(text, ", ended {} ago", format_age(now.saturating_sub(end))),
        }
    }
    text.push('\n');
    if let Some(plan) = &status.plan {
        put!(text, "gaps of {}; at most {}\n", gaps(plan), age(plan.budget()));
    }
    for PairNow { source, target, trial, trials } in &status.now {
        put!(text, "{source} ↔ {target}: {trials} trials done");
        if let Some(trial) = trial {
            let arrow = if trial.direction == Direction::Incoming { '←' } else { '→' };
            put!(text, ", now {} ({source} {arrow} {target})", seconds(trial.gap));
        }
        text.push('\n');
    }
    results(&mut text, status);
    text
}

fn results(text: &mut String, status: &Status) {
    let mut lines = Vec::new();
    for report in &status.results {
        let [source, target] = [&report.source, &report.target].map(NodeName::as_str);
        lines.push((format!("{source} → {target}"), report.result.outgoing));
        lines.push((format!("{target} → {source}"), report.result.incoming));
    }
    let width = lines.iter().map(|(pair, _)| pair.chars().count()).max().unwrap_or(0);
    // What is wrong comes first.
    for shows_cold in [true, false] {
        for (pair, coldness) in &lines {
            if matches!(coldness, Coldness::After { .. }) == shows_cold {
                put!(text, "{pair:<width$}  {}\n", coldness.text());
            }
        }
    }
    let left = status.pairs.saturating_sub(status.results.len());
    if status.state != State::Running && left > 0 {
        put!(text, "{left} pairs not surveyed\n");
    }
    if !status.results.is_empty() {
        for remark in REMARKS {
            put!(text, "{remark}\n");
        }
    }
    if let Some((_, sentence)) = recommendation(&status.results) {
        put!(text, "{sentence}\n");
    }
}

#[cfg(test)]
mod tests;
