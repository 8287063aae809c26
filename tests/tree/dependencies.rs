//! The tree of dependencies against deny.toml and the project's card, without any tool but cargo.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::licence::allows;

/// The crates that the project was asked to be made of.
const CARD: [&str; 7] =
    ["ureq", "tiny_http", "serde_json", "prometheus", "ctrlc", "log", "env_logger"];
/// The one place that crates come from, as cargo writes it into every lock file.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// What the image is built for, as in deny.toml.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// The quoted strings in the list `name = [ … ]` of deny.toml, one to a line: an entry's first.
fn list(deny: &str, name: &str) -> Vec<String> {
    let entries: Vec<String> = deny
        .lines()
        .skip_while(|line| *line != format!("{name} = ["))
        .skip(1)
        .take_while(|line| *line != "]")
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split('"').nth(1).map(str::to_owned))
        .collect();
    assert!(!entries.is_empty(), "deny.toml has no list {name}");
    entries
}

/// One package of the tree.
#[derive(Debug, PartialEq)]
struct Package {
    name: String,
    version: String,
    licence: String,
    source: Option<String>,
}

/// Every package that is built for the image's platforms: normal, build and dev dependencies.
fn packages() -> Vec<Package> {
    let mut cargo = Command::new(env!("CARGO"));
    // Whatever runs this test has been built: all manifests are here, and no network is needed.
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path"]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    for platform in PLATFORMS {
        cargo.args(["--filter-platform", platform]);
    }
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let field = |package: &Value, name: &str| package.get(name)?.as_str().map(str::to_owned);
    let all = metadata.get("packages").and_then(Value::as_array).expect("a list of packages");
    all.iter()
        .map(|package| Package {
            name: field(package, "name").unwrap_or_default(),
            version: field(package, "version").unwrap_or_default(),
            licence: field(package, "license").unwrap_or_default(),
            source: field(package, "source"),
        })
        .collect()
}

/// Every rule of deny.toml that the packages break.
fn faults(deny: &str, packages: &[Package]) -> Vec<String> {
    let allowed = list(deny, "allow");
    let banned = list(deny, "deny");
    let doubled = list(deny, "skip");
    let mut faults = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Package { name, version, licence, source } in packages {
        versions.entry(name).or_default().push(version);
        if banned.contains(name) {
            faults.push(format!("{name} {version} is banned"));
        }
        if !allows(&allowed, licence) {
            faults.push(format!("{name} {version}: the licence {licence:?} is not allowed"));
        }
        // A crate of the workspace has no source.
        let ours = source.is_none() && name.starts_with("wylis");
        if !ours && source.as_deref() != Some(CRATES_IO) {
            faults.push(format!("{name} {version} comes from {source:?}"));
        }
    }
    for (name, versions) in versions {
        if versions.len() > 1 && !doubled.iter().any(|double| double == name) {
            faults.push(format!("{name} comes in several versions: {}", versions.join(", ")));
        }
    }
    faults
}

#[test]
fn the_tree_keeps_to_deny_toml() {
    let packages = packages();
    assert!(packages.len() > CARD.len(), "cargo names {} packages", packages.len());
    let faults = faults(&text("deny.toml"), &packages);
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn no_async_runtime_enters_on_any_platform() {
    let lock = text("Cargo.lock");
    let banned = list(&text("deny.toml"), "deny");
    assert!(banned.iter().any(|name| name == "tokio"), "deny.toml bans tokio");
    let names: Vec<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(names.contains(&"wylis"), "Cargo.lock has another form than this test reads");
    let found: Vec<_> = names.iter().filter(|name| banned.iter().any(|ban| ban == *name)).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_seven_crates_of_the_card_are_direct_dependencies() {
    let manifest = text("Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).expect("dependencies");
    let section = section.split("\n[").next().unwrap_or_default();
    for name in CARD {
        let direct = section.lines().any(|line| line.split([' ', '.']).next() == Some(name));
        assert!(direct, "{name} is not among the dependencies");
    }
}

#[test]
fn each_rule_of_deny_toml_can_be_broken() {
    let package = |name: &str, version: &str, licence: &str, source: Option<&str>| Package {
        name: name.to_owned(),
        version: version.to_owned(),
        licence: licence.to_owned(),
        source: source.map(str::to_owned),
    };
    let found = faults(
        &text("deny.toml"),
        &[
            package("wylis", "1.0.0", "Apache-2.0", None),
            package("good", "1.0.0", "MIT OR GPL-3.0", Some(CRATES_IO)),
            package("tokio", "1.0.0", "MIT", Some(CRATES_IO)),
            package("copyleft", "1.0.0", "GPL-3.0-only", Some(CRATES_IO)),
            package("elsewhere", "1.0.0", "MIT", Some("git+https://example.org/elsewhere")),
            package("vendored", "1.0.0", "MIT", None),
            package("twice", "1.0.0", "MIT", Some(CRATES_IO)),
            package("twice", "2.0.0", "MIT", Some(CRATES_IO)),
        ],
    );
    assert_eq!(found.len(), 5, "{found:#?}");
    for (fault, name) in found.iter().zip(["tokio", "copyleft", "elsewhere", "vendored", "twice"]) {
        assert!(fault.starts_with(name), "{fault} should be about {name}");
    }
}
