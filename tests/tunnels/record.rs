//! Records real agents as Prometheus would scrape them, in situations that the alerts are tested on
//! (tests/alerts): `make recordings` writes tests/alerts/recordings.
//!
//! Time is stretched, so that minutes record half an hour: agents run several times faster than by
//! default, and scrapes are as much faster. Times that no setting changes seem longer in a recording: the
//! kernel's retransmit after 1 s, the agents' limits on early refreshes, their limit on a peer's silence.

mod faults;
mod lifecycle;
mod recorder;
mod series;

/// Prometheus' scrape interval, in seconds of its own time.
const SCRAPE: u32 = 30;
/// The usual factor: agents run this many times faster than by default.
const STRETCH: u32 = 10;
/// Sizes of a mesh: three agents isolate a pair, four show a majority.
const PAIR: u8 = 3;
const MOST: u8 = 4;

/// The settings of agents that run `stretch` times faster than by default.
fn settings(stretch: u32) -> Vec<(&'static str, String)> {
    let millis = |seconds: u32| format!("{}ms", seconds * 1000 / stretch);
    vec![
        ("WYLIS_INTERVAL", millis(10)),
        // Long enough for the second SYN, after 1 s.
        ("WYLIS_TIMEOUT", "2500ms".to_owned()),
        ("WYLIS_LARGE_INTERVAL", millis(300)),
        ("WYLIS_REFRESH_INTERVAL", millis(30)),
        ("WYLIS_DRAIN", "1s".to_owned()),
    ]
}
