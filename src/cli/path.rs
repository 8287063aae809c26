//! `wylis probe --mtu`: what a path carries, each direction apart. As single probes, it changes no counter of a pair
//! and does not involve the local agent.

use super::arguments::Options;
use super::exit::Exit;
use super::fetch::resolve;
use super::paint::Paint;
use super::print;
use super::probe::{Summary, combine, probe_in_order, render};
use crate::document::MtuFields;
use crate::experiment::LargestPacket;
use crate::probe::Direction;
use crate::prober::largest_packet;

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
    let mut has_limit = false;
    if let Some((address, (Ok(_), _))) = attempts.last() {
        let mut search = |way: &str, direction: Direction| {
            let largest = largest_packet(*address, direction);
            has_limit |= largest.is_none_or(|largest| largest.is_exact);
            say(&describe(way, largest)).map(|()| largest)
        };
        let outgoing = search("to", Direction::Outgoing)?;
        let incoming = search("from", Direction::Incoming)?;
        document.mtu = Some(MtuFields::new(outgoing, incoming));
    }
    if options.json {
        print(&document.json())?;
    }
    Ok(if has_limit { Exit::Unhealthy } else { summary.exit() })
}

fn describe(way: &str, largest: Option<LargestPacket>) -> String {
    match largest {
        Some(largest) => format!("largest packet {way} it: {largest}\n"),
        None => {
            format!(
                "largest packet {way} it: unproven, since small ones are lost or late as well\n"
            )
        }
    }
}
