//! The screenshots of the documentation: a real mesh over four sites with two faulty pairs.

use std::path::PathBuf;
use std::time::Duration;

use wylis_harness::browser::Browser;
use wylis_harness::wait_until;

use super::pods::{Pods, Site};

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
    let Some(pods) = Pods::start(&SITES) else { return };
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
    let Some(browser) = Browser::start_in(&pods.router) else { return };
    let take = |name: &str| std::fs::write(folder.join(name), browser.screenshot()).unwrap();
    let open = "document.querySelector(`[aria-label^='fra-2 → hel-1:']`)";
    for (scheme, name) in [("light", "page.png"), ("dark", "page-dark.png")] {
        browser.prefer("prefers-color-scheme", scheme);
        browser.resize(1000, 540);
        browser.go(&pods.url("fra-1"));
        browser.wait_for(PATIENCE, "now");
        browser.run(&format!("hovered = {open}.place; highlight()"));
        take(name);
    }
    browser.prefer("prefers-color-scheme", "light");
    browser.resize(1000, 640);
    browser.run(&format!("{open}.click()"));
    browser.wait_for(PATIENCE, "document.querySelectorAll('dialog dl').length === 2");
    browser.run("document.activeElement.blur()");
    take("pair.png");
}
