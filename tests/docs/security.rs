//! docs/security.md: the classes of addresses, and that all it names exists.

use std::net::{IpAddr, SocketAddr};

use wylis::config::SETTINGS;
use wylis::discovery::{AddressClass, AddressRule};
use wylis::route::Route;

use super::markdown::{code, table};
use super::{METRICS, read};

const SECURITY: &str = "docs/security.md";
const PORT: u16 = 9050;
/// The variable of Kubernetes, no setting of Wylis.
const OF_KUBERNETES: &str = "KUBERNETES_SERVICE_HOST";

#[test]
fn addresses_are_refused_as_documented() {
    let rows = table(&read(SECURITY), "Where probes may go", 0).unwrap();
    let classes: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(classes, AddressClass::ALL.map(AddressClass::as_str));
    let api = "10.96.0.1";
    let pods = AddressRule::pods(None, (api, PORT), PORT);
    for row in &rows {
        let class = row[0].as_str();
        let examples: Vec<SocketAddr> = match class {
            "the API server's" => vec![SocketAddr::new(api.parse().unwrap(), PORT)],
            "at another port" => vec![SocketAddr::new([10, 0, 0, 1].into(), PORT + 1)],
            _ => {
                let ips = row[1].split(", ").map(|ip| ip.parse::<IpAddr>().expect(ip));
                ips.map(|ip| SocketAddr::new(ip, PORT)).collect()
            }
        };
        let word = |refused: bool| if refused { "refused" } else { "allowed" };
        for example in examples {
            let refusal = pods.refusal(example);
            assert_eq!(refusal.map(AddressClass::as_str), Some(class), "{example}");
            assert_eq!(row[2], word(refusal.is_some()), "{example}");
            let refused = AddressRule::Fixed.refusal(example).is_some();
            assert_eq!(row[3], word(refused), "{example} in a fixed list");
        }
    }
}

/// Whether a piece of inline code names nothing that is missing; only what looks like a setting, a
/// metric, a route or a file is known here.
fn exists(name: &str, metrics: &str) -> bool {
    if name.starts_with("WYLIS_") {
        return SETTINGS.iter().any(|setting| setting.variable == name);
    }
    if name.starts_with("wylis_") {
        return metrics.contains(&format!("`{name}`"));
    }
    if let Some(path) = name.strip_prefix("GET ").or(name.starts_with('/').then_some(name)) {
        return Route::LABELS.contains(&path);
    }
    if name.starts_with("src/") {
        return super::root().join(name).exists();
    }
    let is_variable = name.len() > 8 && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    // The table of bounds is compared with the code elsewhere.
    !is_variable || name == OF_KUBERNETES || name.starts_with("MAX_")
}

#[test]
fn the_settings_routes_and_metrics_of_the_page_exist() {
    let (text, metrics) = (read(SECURITY), read(METRICS));
    let (prose, _) = text.split_once("## Bounds").unwrap();
    let named = code(prose);
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !exists(name, &metrics)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for wrong in ["WYLIS_PORT", "wylis_podz", "/cluster", "GET /alive", "src/x.rs", "SOME_VARIABLE"]
    {
        assert!(!exists(wrong, &metrics), "{wrong}");
    }
}
