//! The image: one binary, an unprivileged user, built without a registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wylis_harness::docker::{Engine, docker};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
/// The binary's budget: the image adds nothing.
const MAX_BYTES: u64 = 2_130_000;

/// A folder for one test, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        // Outside the project, which is the context of one of the builds.
        let path = std::env::temp_dir().join(format!("wylis-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The engine; skips the test without one.
fn engine() -> Option<Engine> {
    Engine::find().map_err(|reason| wylis_harness::skip(&reason)).ok()
}

fn tar(arguments: &[&str]) -> String {
    let output = Command::new("tar").args(arguments).output().expect("tar starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every file in the layers of an image, as `tar` lists them.
fn files_in(image: &str, folder: &Path) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    docker(&["save", "--output", &path("image.tar"), image]).expect("the image is saved");
    tar(&["-xf", &path("image.tar"), "-C", &path("")]);
    let manifest = fs::read(folder.join("manifest.json")).expect("the image's manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let layers = manifest.pointer("/0/Layers").and_then(Value::as_array).into_iter().flatten();
    let lists = layers.map(|layer| tar(&["-tvf", &path(layer.as_str().expect("a path"))]));
    lists.flat_map(|list| list.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn the_image_holds_the_binary_and_nothing_else() {
    let Some(binary) = std::env::var_os("WYLIS_BINARY").map(PathBuf::from) else {
        return wylis_harness::skip(
            "WYLIS_BINARY names no release binary (scripts/build.sh builds it)",
        );
    };
    let Some(engine) = engine() else { return };
    let folder = Folder::new("image");
    let image = engine.agent(Path::new(PROJECT), &binary, &folder.0.join("context")).unwrap();

    let files = files_in(image.name(), &folder.0);
    assert_eq!(files.len(), 1, "{files:#?}");
    let columns: Vec<&str> = files[0].split_whitespace().collect();
    assert_eq!(columns.last(), Some(&"wylis"), "{files:?}");
    assert!(columns[0].starts_with("-rwxr-xr-x"), "not for everyone to run: {files:?}");

    let size: u64 = image.inspect("{{.Size}}").unwrap().parse().unwrap();
    assert!(size <= MAX_BYTES, "the image is {size} bytes");
    let config: Value = serde_json::from_str(&image.inspect("{{json .Config}}").unwrap()).unwrap();
    // Numeric: the kubelet cannot check whether a name is root's.
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/wylis"]));
    assert!(config["Cmd"].is_null(), "{config}");
    assert_eq!(config["ExposedPorts"], serde_json::json!({"9050/tcp": {}}));
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("title"), env!("CARGO_PKG_NAME"));
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), "Apache-2.0");
    assert_eq!(label("description"), env!("CARGO_PKG_DESCRIPTION"));

    let restricted = ["--rm", "--read-only", "--cap-drop", "ALL", "--network", "none"];
    let restricted = [&["run"], &restricted[..], &["--security-opt", "no-new-privileges"]].concat();
    let output =
        docker(&[&restricted[..], &["--memory", "16m", image.name(), "--version"]].concat());
    assert_eq!(output.unwrap(), concat!("wylis ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_second_file_in_an_image_is_found() {
    let Some(engine) = engine() else { return };
    let folder = Folder::new("two-files");
    fs::write(folder.0.join("a"), "a").unwrap();
    fs::write(folder.0.join("Dockerfile"), "FROM scratch\nCOPY a /\nCOPY a /etc/b\n").unwrap();
    let image = engine.image(&[folder.0.to_str().unwrap()]).unwrap();
    let files = files_in(image.name(), &folder.0);
    let names: Vec<_> = files.iter().filter_map(|line| line.split_whitespace().last()).collect();
    assert!(names.contains(&"a") && names.contains(&"etc/b"), "{names:?}");
}

#[test]
fn the_build_context_has_all_files_of_the_build_from_source() {
    let Some(engine) = engine() else { return };
    let folder = Folder::new("source");
    let name = |file: &str| folder.0.join(file).display().to_string();
    // The builder stage needs a registry; its context does not.
    fs::write(name("Dockerfile"), "FROM scratch\nCOPY . /source\n").unwrap();
    let image = engine.image(&["--file", &name("Dockerfile"), PROJECT]).unwrap();
    let container = engine.create(&[image.name(), "none"]).unwrap();
    docker(&["cp", &format!("{}:/source", container.name()), &name("source")]).unwrap();

    let source = folder.0.join("source");
    let recipe = fs::read_to_string(source.join("scripts/build.sh")).unwrap();
    let named = recipe.split(|c: char| c.is_whitespace() || "\"'".contains(c));
    let scripts: Vec<&str> =
        named.filter_map(|word| word.split_once("$PWD/")).map(|w| w.1).collect();
    assert!(!scripts.is_empty(), "the recipe names no script");
    for script in scripts {
        assert!(source.join(script).exists(), "{script} is named by the recipe and missing");
    }
    assert!(!source.join("target").exists() && !source.join(".git").exists());
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-musl"])
        .current_dir(&source)
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
}
