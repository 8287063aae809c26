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
    Coldness, Command, PairNow, Plan, REMARKS, State, Status, Targets, Tournament, all_warm,
    has_result, recommendation, seconds,
};
use crate::wire::SURVEY_PATH;
use request::Request;

const PEERS_PATH: &str = "/api/v1/peers";
const OK: u16 = 200;
const NOT_YET: u16 = 503;
/// How long a survey waits for an agent that has just started: some probes at the default interval.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);
/// How long the end of a survey that was stopped may take, and how often the agent is asked for it.
const ENDING: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// So many peers are named where another was meant.
const FEW: usize = 8;

pub(super) fn run(options: &Options) -> Result<Exit, Exit> {
    let addresses = fetch::resolve(&options.target)?;
    match &options.survey {
        Request::Show => {
            let document = fetch::document(&addresses, SURVEY_PATH)?;
            show(document, options.json)
        }
        Request::Stop => {
            command(&addresses, &Command::Stop)?;
            let (document, status) = ended(&addresses)?;
            if options.json {
                return show(document, true);
            }
            let text = match status.state {
                State::Running => "the survey is ending\n",
                _ => "the survey has ended\n",
            };
            print(text).map(|()| Exit::Healthy)
        }
        Request::Start { targets, plan, is_confirmed } => {
            let document = fetch::document(&addresses, SURVEY_PATH)?;
            let (node, status) = read(&document)?;
            if let Some(problem) = already_running(&node, &status) {
                return Err(Exit::Failed(problem));
            }
            let text = announcement(&addresses, targets, plan)?;
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

/// Why no other survey begins.
pub(super) fn already_running(node: &NodeName, status: &Status) -> Option<String> {
    let of = status.coordinator.as_ref().unwrap_or(node);
    (status.state == State::Running).then(|| {
        format!(
            "refused: a survey of {of} goes on; see it with wylis survey, end it with wylis survey --stop, both at {of}'s \
             agent"
        )
    })
}

/// The document of a survey that was stopped, once it has ended.
fn ended(addresses: &[SocketAddr]) -> Result<(Vec<u8>, Status), Exit> {
    let began = Instant::now();
    loop {
        let document = fetch::document(addresses, SURVEY_PATH)?;
        let (_, status) = read(&document)?;
        if status.state != State::Running || began.elapsed() > ENDING {
            return Ok((document, status));
        }
        std::thread::sleep(POLL);
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

/// What a survey is going to do.
fn announcement(addresses: &[SocketAddr], targets: &Targets, plan: &Plan) -> Result<String, Exit> {
    let document = fetch::document(addresses, PEERS_PATH)?;
    let peers = Peers::read(&document).map_err(|error| fetch::unreadable(PEERS_PATH, error))?;
    let lines: Vec<(&NodeName, Verdict)> =
        peers.lines.iter().map(|line| (&line.node, line.verdict)).collect();
    if let Targets::Peers(targets) = targets
        && let Some(problem) = targets.iter().find_map(|target| unfit(&peers.node, &lines, target))
    {
        return Err(Exit::Failed(problem));
    }
    let up = lines.iter().filter(|(_, verdict)| {
        !matches!(verdict, Verdict::Down(_) | Verdict::Unknown | Verdict::Draining)
    });
    let names: Vec<NodeName> = up.map(|(node, _)| (*node).clone()).collect();
    Ok(announce(&peers.node, &Tournament::new(&peers.node, targets, &names), plan))
}

/// Why a target cannot be surveyed. One of which nothing is known yet may be up soon.
pub(super) fn unfit(
    node: &NodeName,
    peers: &[(&NodeName, Verdict)],
    target: &NodeName,
) -> Option<String> {
    if target == node {
        return Some(format!("{node} is this agent's own node: name the others"));
    }
    match peers.iter().find(|(peer, _)| *peer == target) {
        Some((_, Verdict::Draining)) => Some(format!("{target} is draining")),
        Some((_, Verdict::Down(reason))) => Some(format!("{target} is down ({reason})")),
        Some(_) => None,
        None if (1..=FEW).contains(&peers.len()) => {
            let names: Vec<&str> = peers.iter().map(|(peer, _)| peer.as_str()).collect();
            Some(format!("{node} has no peer {target}; its peers: {}", names.join(", ")))
        }
        None => Some(format!("{node} has no peer {target}")),
    }
}

/// What a survey is going to do.
pub(super) fn announce(node: &NodeName, tournament: &Tournament, plan: &Plan) -> String {
    let rounds = u32::try_from(tournament.rounds()).unwrap_or(u32::MAX);
    let expected = plan.pair_time().saturating_mul(rounds);
    let pairs = count(tournament.pairs(), "pair");
    let mut text = format!("{node} surveys {pairs} of {} nodes, ", tournament.nodes().len());
    if rounds > 1 {
        put!(text, "in {rounds} rounds one after the other, ");
    }
    put!(text, "with gaps of {}: about {} if no path goes cold", gaps(plan), span(expected));
    text.push_str("; a path that does is searched, which takes several times as long.\n");
    put!(
        text,
        "It is cut off after {}: what is left is reported as not surveyed.\n",
        span(plan.budget())
    );
    text.push_str(
        "While a pair rests, its two agents send each other nothing. If only they keep the path warm, the first \
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
    let (node, status) = read(&document)?;
    if json {
        fetch::print_raw(document)?;
    } else {
        print(&render(&node, &status, now()))?;
    }
    Ok(exit(&status))
}

fn read(document: &[u8]) -> Result<(NodeName, Status), Exit> {
    read_survey(document).map_err(|error| fetch::unreadable(SURVEY_PATH, error))
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

/// A time, to the minute from two of them on.
pub(super) fn span(time: Duration) -> String {
    let (seconds, minutes) = (time.as_secs(), (time.as_secs() + 30) / 60);
    match (minutes / 60, minutes % 60) {
        _ if seconds < 120 => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
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
    let mut text = head(node, status, now);
    if let Some(plan) = &status.plan {
        put!(text, "gaps of {}; at most {}\n", gaps(plan), span(plan.budget()));
    }
    for PairNow { source, target, trial, trials } in &status.now {
        put!(text, "{source} ↔ {target}: {} done", count((*trials).into(), "trial"));
        if let Some(trial) = trial {
            let arrow = if trial.direction == Direction::Incoming { '←' } else { '→' };
            put!(text, ", now {} ({source} {arrow} {target})", seconds(trial.gap));
        }
        text.push('\n');
    }
    results(&mut text, status);
    text
}

/// The first line. An agent that only takes part knows its own pairs alone.
fn head(node: &NodeName, status: &Status, now: u64) -> String {
    let other = status.coordinator.as_ref().filter(|coordinator| *coordinator != node);
    let is_running = status.state == State::Running;
    let mut text = match other {
        Some(other) if is_running => {
            return format!("{node}: a survey of {other} goes on; ask {other} for its progress\n");
        }
        Some(other) => format!("{node}: a survey of {other}: {}", status.state),
        None => format!("{node}: survey {}", status.state),
    };
    if let Some(reason) = &status.reason {
        put!(text, " ({reason})");
    }
    if other.is_none() {
        let done = status.results.iter().filter(|report| has_result(report)).count();
        put!(text, ", {done} of {} surveyed", count(status.pairs, "pair"));
    }
    let ago = |time: u64| format_age(now.saturating_sub(time));
    if let Some(started) = status.started {
        put!(text, ", begun {} ago", ago(started));
    }
    match status.end {
        Some(end) if is_running && end > now => {
            put!(text, ", ends in about {}", span(Duration::from_millis(end - now)));
        }
        Some(_) if is_running && is_over_budget(status, now) => {
            text.push_str(", ends soon: its time is over");
        }
        Some(_) if is_running => {
            text.push_str(", takes longer than estimated: a gap is being searched");
        }
        Some(end) => put!(text, ", ended {} ago", ago(end)),
        None => {}
    }
    if let Some(other) = other {
        put!(text, "; ask {other} for its result");
    }
    text.push('\n');
    text
}

fn is_over_budget(status: &Status, now: u64) -> bool {
    let spent = status.started.map(|started| Duration::from_millis(now.saturating_sub(started)));
    spent.zip(status.plan.as_ref()).is_some_and(|(spent, plan)| spent >= plan.budget())
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
        put!(text, "{} not surveyed\n", count(left, "pair"));
    }
    if status.results.iter().any(has_result) {
        for remark in REMARKS {
            put!(text, "{remark}\n");
        }
    }
    if let Some((_, sentence)) = recommendation(&status.results) {
        put!(text, "{sentence}\n");
    } else if let Some(gap) = all_warm(&status.results)
        && status.state == State::Done
        && left == 0
    {
        let gap = seconds(gap);
        put!(
            text,
            "no path went cold up to {gap}: choose a third of the shortest timer you know of\n"
        );
    }
}

#[cfg(test)]
mod tests;
