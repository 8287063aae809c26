//! `wylis probe --mtu` and `--flows`: what a path carries in each direction, and which flows. As single probes, they
//! change no counter of a pair and do not involve the local agent.

use super::arguments::Options;
use super::exit::Exit;
use super::fetch::resolve;
use super::paint::Paint;
use super::print;
use super::probe::{Summary, combine, probe_in_order, render};
use crate::document::{FlowFields, MtuFields};
use crate::experiment::LargestPacket;
use crate::probe::{Direction, FailureReason, Outcome};
use crate::prober::{FlowTrial, largest_packet, try_flows};

/// Source ports that a line lists.
const LISTED: usize = 8;
/// What can be behind an unproven result: the trials cannot tell which.
const CAUSES: &str = " (random loss, or a filter on this host)";

pub(super) fn run(options: &Options, paint: Paint) -> Result<Exit, Exit> {
    let mut addresses = resolve(&options.target)?;
    let attempts = probe_in_order(&mut addresses, options.timeout);
    let mut summary = Summary::default();
    combine(&attempts).inspect(|result| summary.add(result));
    let say = |text: &str| if options.json { Ok(()) } else { print(text) };
    for (address, result) in &attempts {
        summary.address = Some(*address);
        say(&render(result, *address, paint))?;
    }
    let mut document = summary.document();
    let mut exit = summary.exit();
    let Some((address, (result, _))) = attempts.last() else { return Ok(exit) };
    // The flow of this probe may be a dead one.
    let timed_out = *result == Err(Outcome::Failure(FailureReason::ConnectTimeout));
    if let Some(flows) = options.flows.filter(|_| timed_out || result.is_ok()) {
        let trial = try_flows(*address, flows);
        if trial.errors > 0 || !trial.failed.is_empty() {
            exit = Exit::Unhealthy;
        }
        say(&describe_flows(&trial))?;
        let FlowTrial { tried, errors, failed, dead } = trial;
        let failed = failed.len();
        document.flows = Some(FlowFields { tried, errors, failed, dead_ports: dead });
    }
    if options.mtu && result.is_ok() {
        let mut search = |way: &str, direction: Direction| {
            let largest = largest_packet(*address, direction);
            if largest.is_none_or(|largest| largest.is_exact) {
                exit = Exit::Unhealthy;
            }
            say(&describe(way, largest)).map(|()| largest)
        };
        let outgoing = search("to", Direction::Outgoing)?;
        let incoming = search("from", Direction::Incoming)?;
        document.mtu = Some(MtuFields::new(outgoing, incoming));
    }
    if options.json {
        print(&document.json())?;
    }
    Ok(exit)
}

pub(super) fn describe(way: &str, largest: Option<LargestPacket>) -> String {
    match largest {
        Some(largest) => format!("largest packet {way} it: {largest}\n"),
        // Trials were unclear or contradicted each other, or their time was over.
        None => format!(
            "largest packet {way} it: unproven: packets were lost or late, but no size was lost and passed \
             consistently{CAUSES}\n"
        ),
    }
}

pub(super) fn describe_flows(trial: &FlowTrial) -> String {
    let mut text = format!("{} flows: ", trial.tried);
    match (&trial.dead, trial.failed.len()) {
        (_, 0) => text.push_str("all get through"),
        (None, failed) => {
            put!(text, "{failed} failed, unproven: too few others got through every time{CAUSES}")
        }
        (Some(dead), failed) if dead.is_empty() => {
            put!(text, "{failed} failed, none of them always")
        }
        (Some(dead), _) => {
            put!(text, "{} never get through, from source ports", dead.len());
            for (at, port) in dead.iter().take(LISTED).enumerate() {
                put!(text, "{} {port}", if at == 0 { "" } else { "," });
            }
            text.push_str(if dead.len() > LISTED { ", …" } else { "" });
        }
    }
    if trial.errors > 0 {
        put!(text, "; {} more met other errors", trial.errors);
    }
    text + "\n"
}
