//! Clients that speak in the name of others. They read no answer: only what they claim matters.

use crate::hostile::{Hostile, Known, Origin, Random, get, reset, send};

/// A keep-alive request with these header lines.
fn claim(hostile: &Hostile, to: &Known, headers: &str) {
    let Some(mut stream) = hostile.connect_to(to.address, Origin::Ordinary, None) else { return };
    let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(1)));
    send(&mut stream, &get("/keepalive", headers));
    let _ = std::io::Read::read(&mut stream, &mut [0; 512]);
    reset(stream);
}

/// For each ordered pair of agents in turn, the lines that `say` makes.
fn forge(hostile: &Hostile, mut say: impl FnMut(u64) -> String) {
    let mut pace = hostile.pace();
    let agents = &hostile.agents;
    let pairs: Vec<(&Known, &Known)> = agents
        .iter()
        .flat_map(|to| agents.iter().map(move |from| (from, to)))
        .filter(|(from, to)| from.node != to.node)
        .collect();
    for number in 0.. {
        if !pace.step() {
            return;
        }
        let (from, to) = pairs[usize::try_from(number).unwrap() % pairs.len()];
        // Every other one with a wrong life.
        let instance = if number / 6 % 2 == 0 { &from.instance } else { "0f8fad5b" };
        let headers = format!("Wylis-Node: {}\r\nWylis-Instance: {instance}\r\n", from.node);
        claim(hostile, to, &(headers + &say(number)));
    }
}

pub(crate) fn goodbyes(hostile: &Hostile) {
    let drains = ["5000", "1", "300000", "86400000", "18446744073709551615", "-1"];
    forge(hostile, |number| {
        let drain = drains[usize::try_from(number / 12).unwrap() % drains.len()];
        format!("Wylis-Interval: 1000\r\nWylis-Goodbye: {drain}\r\n")
    });
}

pub(crate) fn intervals(hostile: &Hostile) {
    let intervals = ["0", "1", "100", "3600000", "86400000", "18446744073709551615", "1e9"];
    forge(hostile, |number| {
        let interval = intervals[usize::try_from(number / 12).unwrap() % intervals.len()];
        format!("Wylis-Interval: {interval}\r\n")
    });
}

/// Senders that are no peers, each with a name and a life of its own.
pub(crate) fn strangers(hostile: &Hostile) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut pace = hostile.pace();
    while pace.step() {
        let name = format!("{:016x}", random.next()).repeat(15);
        let headers = format!(
            "Wylis-Node: {name}\r\nWylis-Instance: {:016x}\r\nWylis-Interval: 1000\r\n\
             Wylis-Goodbye: 5000\r\nWylis-Token: {:016x}\r\n",
            random.next(),
            random.next()
        );
        claim(hostile, &hostile.agents[0], &headers);
    }
}
