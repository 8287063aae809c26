//! The dependencies against the lists in deny.toml and the crates the project must use, with cargo alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::licence::allows;

/// The crates that the project must be built from.
const REQUIRED: [&str; 7] =
    ["ureq", "tiny_http", "serde_json", "prometheus", "ctrlc", "log", "env_logger"];
/// The only registry, as cargo writes it into a lock file.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// The entries of the list `name = [ … ]` in deny.toml: the first quoted string of each line.
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

#[derive(Debug, PartialEq)]
struct Package {
    name: String,
    version: String,
    licence: String,
    source: Option<String>,
}

/// Every package that the image's platforms need: normal, build and dev dependencies.
fn packages(platforms: &[String]) -> Vec<Package> {
    let mut cargo = Command::new(env!("CARGO"));
    // Building this test fetched all manifests, so no network is needed.
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path"]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    for platform in platforms {
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

/// The rules on licences, sources and doubled versions that the packages break.
fn faults(deny: &str, packages: &[Package]) -> Vec<String> {
    let allowed = list(deny, "allow");
    let doubled = list(deny, "skip");
    let mut faults = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Package { name, version, licence, source } in packages {
        versions.entry(name).or_default().push(version);
        if !allows(&allowed, licence) {
            faults.push(format!("{name} {version}: the licence {licence:?} is not allowed"));
        }
        // A workspace crate has no source.
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

/// The banned crates among the packages of a lock file, which lists those of all platforms.
fn banned(deny: &str, lock: &str) -> Vec<String> {
    let banned = list(deny, "deny");
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    names.map(str::to_owned).filter(|name| banned.contains(name)).collect()
}

#[test]
fn licences_sources_and_versions_follow_deny_toml() {
    let deny = text("deny.toml");
    let packages = packages(&list(&deny, "targets"));
    assert!(packages.len() > REQUIRED.len(), "cargo lists {} packages", packages.len());
    let faults = faults(&deny, &packages);
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn no_banned_crate_is_in_the_lock_file() {
    let (deny, lock) = (text("deny.toml"), text("Cargo.lock"));
    assert_eq!(banned(&deny, &lock), [""; 0]);
    assert!(lock.contains("\nname = \"wylis\"\n"), "Cargo.lock has an unknown form");
    assert_eq!(banned(&deny, &format!("{lock}\nname = \"tokio\"\n")), ["tokio"]);
}

#[test]
fn the_required_crates_are_direct_dependencies() {
    let manifest = text("Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).expect("dependencies");
    let section = section.split("\n[").next().unwrap_or_default();
    for name in REQUIRED {
        let direct = section.lines().any(|line| line.split([' ', '.']).next() == Some(name));
        assert!(direct, "{name} is not among the dependencies");
    }
}

#[test]
fn each_broken_rule_is_reported() {
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
            package("copyleft", "1.0.0", "GPL-3.0-only", Some(CRATES_IO)),
            package("elsewhere", "1.0.0", "MIT", Some("git+https://example.org/elsewhere")),
            package("vendored", "1.0.0", "MIT", None),
            package("twice", "1.0.0", "MIT", Some(CRATES_IO)),
            package("twice", "2.0.0", "MIT", Some(CRATES_IO)),
        ],
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    for (fault, name) in found.iter().zip(["copyleft", "elsewhere", "vendored", "twice"]) {
        assert!(fault.starts_with(name), "{fault} should be about {name}");
    }
}
