//! The manifests against the schemas that Kubernetes publishes, offline and strict: an unknown field
//! is an error, for what is misspelt is silently ignored otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::objects::files;
use wylis_harness::skip;

/// The oldest release that people are likely to run, the newest that there are schemas for, and one
/// between them.
const RELEASES: [&str; 3] = ["1.29", "1.33", "1.37"];

/// The validator that scripts/setup.sh installs.
fn validator() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/venv/bin/kubernetes-validate");
    if !path.exists() {
        skip("no kubernetes-validate in build/venv (scripts/setup.sh)");
        return None;
    }
    Some(path)
}

/// Whether the files pass, and what the validator says.
fn validate(validator: &Path, files: &[PathBuf]) -> (bool, String) {
    let mut command = Command::new(validator);
    command.arg("--strict");
    for release in RELEASES {
        command.args(["--kubernetes-version", release]);
    }
    let output = command.args(files).output().expect("the validator starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_schemas_of_three_releases_accept_the_manifests() {
    let Some(validator) = validator() else { return };
    let monitoring = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/monitoring");
    // Of what lies there, the kinds that are Kubernetes' own.
    let own = [monitoring.join("grafana-dashboard-configmap.yaml")];
    let (valid, said) = validate(&validator, &[&files()[..], &own].concat());
    assert!(valid, "{said}");
    for release in RELEASES {
        let passed = format!(" passed for resource daemonset/wylis against version {release}\n");
        assert!(said.contains(&passed), "{release} was not used: {said}");
    }
}

#[test]
fn the_schemas_refuse_a_broken_manifest() {
    let Some(validator) = validator() else { return };
    let daemonset = files().into_iter().find(|file| file.ends_with("50-daemonset.yaml"));
    let good = fs::read_to_string(daemonset.expect("the manifest of the DaemonSet")).unwrap();
    for (name, part, other) in [
        ("misspelt", "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
        ("wrong-type", "enableServiceLinks: false", "enableServiceLinks: \"no\""),
        ("missing", "      containers:\n", "      initContainers:\n"),
    ] {
        assert!(good.contains(part), "{part} is not in the manifest");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.yaml"));
        fs::write(&file, good.replace(part, other)).unwrap();
        let (valid, said) = validate(&validator, &[file]);
        assert!(!valid, "{name} passed: {said}");
        assert_eq!(said.matches("ERROR").count(), RELEASES.len(), "{said}");
    }
}
