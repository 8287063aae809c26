//! The manifests against Kubernetes' published schemas, offline and strict: an unknown field is an error, so
//! that a misspelt one is not ignored.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::objects::files;
use wylis_harness::skip;

/// The oldest release in common use, the newest with a schema, and one between them.
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

/// Whether the files pass, and the validator's output.
fn validate(validator: &Path, files: &[PathBuf]) -> (bool, String) {
    let mut command = Command::new(validator);
    command.arg("--strict");
    for release in RELEASES {
        command.args(["--kubernetes-version", release]);
    }
    let output = command.args(files).output().expect("the validator starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_schemas_of_three_releases_accept_the_manifests() {
    let Some(validator) = validator() else { return };
    let monitoring = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/monitoring");
    // The folder's only built-in kind.
    let own = [monitoring.join("grafana-dashboard-configmap.yaml")];
    let (valid, output) = validate(&validator, &[&files()[..], &own].concat());
    assert!(valid, "{output}");
    for release in RELEASES {
        let passed = format!(" passed for resource daemonset/wylis against version {release}\n");
        assert!(output.contains(&passed), "{release} was not used: {output}");
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
        assert!(good.contains(part), "{part} is missing from the manifest");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.yaml"));
        fs::write(&file, good.replace(part, other)).unwrap();
        let (valid, output) = validate(&validator, &[file]);
        assert!(!valid, "{name} passed: {output}");
        assert_eq!(output.matches("ERROR").count(), RELEASES.len(), "{output}");
    }
}
