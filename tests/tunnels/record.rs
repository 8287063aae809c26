//! Records what Prometheus would scrape of real agents through situations, for the tests of the
//! alerts (tests/alerts): `make recordings` runs these and writes tests/alerts/recordings anew.
//!
//! Time is stretched, or half an hour could not be recorded in minutes: agents run a number of times
//! faster than by default, and are scraped as much faster. What the settings do not govern is not
//! stretched, and so seems to take longer than it does: the kernel's retransmission after a second,
//! the agents' limits on early refreshes and their patience with a silent peer.

mod faults;
mod lifecycle;
mod recorder;
mod series;

/// What Prometheus' scrapes are apart, in seconds; here as in its own time.
const SCRAPE: u32 = 30;
/// How many times faster than by default, where nothing else is said.
const STRETCH: u32 = 10;
/// Three agents show what a pair is, and four what most others are.
const PAIR: u8 = 3;
const MOST: u8 = 4;

/// The settings of agents that are so many times faster than by default.
fn settings(stretch: u32) -> Vec<(&'static str, String)> {
    let millis = |seconds: u32| format!("{}ms", seconds * 1000 / stretch);
    vec![
        ("WYLIS_INTERVAL", millis(10)),
        // Long enough for the second SYN, which comes after a second.
        ("WYLIS_TIMEOUT", "2500ms".to_owned()),
        ("WYLIS_LARGE_INTERVAL", millis(300)),
        ("WYLIS_REFRESH_INTERVAL", millis(30)),
        ("WYLIS_DRAIN", "1s".to_owned()),
    ]
}
