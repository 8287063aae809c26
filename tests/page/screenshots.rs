//! The screenshots of the documentation: a real mesh over four sites with two faulty pairs, which remembers a
//! recorded night.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use wylis_harness::browser::Browser;
use wylis_harness::wait_until;

use super::pods::{Pods, Site};
use super::recorded::Night;

/// Enough for twenty probes of every pair, so that every plot is full, and for two looks at half-open
/// connections.
const PATIENCE: Duration = Duration::from_secs(120);

const fn far(milliseconds: u64) -> Option<Duration> {
    Some(Duration::from_millis(milliseconds))
}

/// The router is at the first site.
const SITES: [Site<'_>; 5] = [
    (None, &["fra-1", "fra-2", "fra-3"]),
    (far(5), &["hel-1", "hel-2"]),
    (far(20), &["ash-1", "ash-2"]),
    (far(38), &["sin-1"]),
    (far(9), &["home"]),
];

#[test]
#[ignore = "writes the screenshots; make screenshots"]
fn write_the_screenshots() {
    let Some(folder) = std::env::var_os("WYLIS_SCREENSHOTS").map(PathBuf::from) else { return };
    let delay = |delay: &Option<Duration>| delay.unwrap_or_default().as_secs_f64() * 1000.0;
    let nodes =
        SITES.iter().flat_map(|(site, nodes)| nodes.iter().map(move |node| (*node, delay(site))));
    let night = Night::before_now(&nodes.collect::<Vec<_>>());
    let Some(pods) = Pods::start_with(&SITES, |node| Some(night.file(node))) else { return };
    let Some(browser) = Browser::start_in(&pods.router) else { return };
    let take = |name: &str| std::fs::write(folder.join(name), browser.screenshot()).unwrap();
    browser.devtools("Emulation.setTimezoneOverride", &json!({"timezoneId": night.zone()}));
    browser.resize(1000, 680);
    browser.go(&pods.url("fra-1"));
    browser.wait_for(PATIENCE, "now && day");
    browser.run(&format!("seek({})", night.dead_from()));
    browser.wait_for(
        PATIENCE,
        "past !== null && now.past === past && getComputedStyle(grid).opacity === '1'",
    );
    take("night.png");
    pods.lose("ash-2", "hel-2");
    let probes = |source: &str, target: &str| {
        let peer = pods.mesh.agent(source).peer(target);
        peer["recent"].as_array().map_or(0, Vec::len)
    };
    wait_until(PATIENCE, "probes of a healthy pair", || probes("fra-2", "hel-1") >= 14);
    pods.cut("fra-2", "hel-1");
    for pair in [("fra-2", "hel-1"), ("hel-1", "fra-2")] {
        pods.mesh.wait_for_verdict(pair.0, pair.1, "down");
    }
    pods.mesh.wait_for_verdict("ash-2", "hel-2", "lossy");
    let syns_only = || pods.mesh.agent("fra-2").peer("hel-1")["incoming"] == "syns";
    wait_until(PATIENCE, "SYNs of hel-1 arrive", syns_only);
    wait_until(PATIENCE, "probes of a faulty pair", || probes("fra-2", "hel-1") >= 20);
    let open = "document.querySelector(`[aria-label^='fra-2 → hel-1:']`)";
    for (scheme, name) in [("light", "page.png"), ("dark", "page-dark.png")] {
        browser.prefer("prefers-color-scheme", scheme);
        browser.resize(1000, 720);
        browser.go(&pods.url("fra-1"));
        browser.wait_for(PATIENCE, "now && day");
        browser.run(&format!("hovered = {open}.place; highlight()"));
        take(name);
    }
    browser.prefer("prefers-color-scheme", "light");
    browser.resize(1000, 800);
    browser.run(&format!("{open}.click()"));
    let drawn = "document.querySelectorAll('dialog dl, dialog .strip:not([hidden])').length === 4";
    browser.wait_for(PATIENCE, drawn);
    browser.run("document.activeElement.blur()");
    take("pair.png");
}
