//! A container engine for the tests: each object carries the test's process id, and is removed when its
//! owner is dropped. The next test removes the objects of a killed one.

use std::path::Path;
use std::process::{Command, Output, id};
use std::sync::atomic::{AtomicU32, Ordering};

/// The label of all our objects; its value is the process id of their test.
const LABEL: &str = "wylis.test";
/// The engine answers within 1 s, and takes 10 s to stop a container that ignores SIGTERM.
const DEADLINE_SECONDS: &str = "60";

/// A running engine.
#[derive(Debug)]
pub struct Engine(());

/// An image, a container or a network that is removed when this is dropped.
#[derive(Debug)]
pub struct Owned {
    kind: Kind,
    name: String,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Image,
    Container,
    Network,
}

impl Kind {
    fn removal(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["image", "rm", "--force"],
            Self::Container => &["container", "rm", "--force", "--volumes"],
            Self::Network => &["network", "rm"],
        }
    }

    /// The command and the format that list names.
    fn listing(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Image => (&["image", "ls"], "{{.Repository}}:{{.Tag}}"),
            Self::Container => (&["container", "ls", "--all"], "{{.Names}}"),
            Self::Network => (&["network", "ls"], "{{.Name}}"),
        }
    }
}

/// Runs `docker` with these arguments and returns what it prints.
///
/// # Errors
/// When it cannot start, fails, or takes longer than a minute; the text names the command.
pub fn docker<S: AsRef<str>>(arguments: &[S]) -> Result<String, String> {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    let output = output(&arguments)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// As [`docker`], with its whole output.
fn output(arguments: &[&str]) -> Result<Output, String> {
    let output = Command::new("timeout")
        .args([DEADLINE_SECONDS, "docker"])
        .args(arguments)
        // The classic builder needs neither a plugin nor a registry.
        .env("DOCKER_BUILDKIT", "0")
        .output()
        .map_err(|error| format!("docker: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("docker {}: {}: {}", arguments.join(" "), output.status, errors.trim_end()))
}

impl Engine {
    /// The running engine, after the removal of leftovers.
    ///
    /// # Errors
    /// The reason why there is none, for [`crate::skip`].
    pub fn find() -> Result<Self, String> {
        docker(&["version", "--format", "{{.Server.Version}}"])
            .map_err(|error| format!("no container engine (scripts/engine.sh start): {error}"))?;
        for kind in [Kind::Container, Kind::Network, Kind::Image] {
            sweep(kind);
        }
        Ok(Self(()))
    }

    /// Builds an image with the classic builder; `arguments` follow `docker build`'s own.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn image(&self, arguments: &[&str]) -> Result<Owned, String> {
        self.make(Kind::Image, |name, label| {
            let own = ["build", "--quiet", "--label", label, "--tag", name];
            [&own, arguments].concat().into_iter().map(str::to_owned).collect()
        })
    }

    /// Builds the agent's image from a binary, with the project's Dockerfile. `context` is a folder for a
    /// copy of the binary.
    ///
    /// # Errors
    /// When the binary cannot be copied or the engine refuses.
    pub fn agent(&self, project: &Path, binary: &Path, context: &Path) -> Result<Owned, String> {
        let copied = std::fs::create_dir_all(context)
            .and_then(|()| std::fs::copy(binary, context.join("wylis")));
        copied
            .map_err(|error| format!("{} to {}: {error}", binary.display(), context.display()))?;
        let file = project.join("Dockerfile.scratch").display().to_string();
        let context = context.display().to_string();
        self.image(&["--file", &file, "--target", "prebuilt", &context])
    }

    /// Creates a container without starting it; `arguments` follow `docker create`'s own.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn create(&self, arguments: &[&str]) -> Result<Owned, String> {
        self.container(&["create"], arguments)
    }

    /// Starts a container in the background; `arguments` follow `docker run`'s own.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn run(&self, arguments: &[&str]) -> Result<Owned, String> {
        self.container(&["run", "--detach"], arguments)
    }

    /// Creates a network with this subnet, for containers with fixed addresses.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn network(&self, subnet: &str) -> Result<Owned, String> {
        self.make(Kind::Network, |name, label| {
            ["network", "create", "--label", label, "--subnet", subnet, name]
                .map(str::to_owned)
                .to_vec()
        })
    }

    fn container(&self, command: &[&str], arguments: &[&str]) -> Result<Owned, String> {
        self.make(Kind::Container, |name, label| {
            let own = ["--name", name, "--label", label];
            [command, &own, arguments].concat().into_iter().map(str::to_owned).collect()
        })
    }

    fn make(
        &self,
        kind: Kind,
        command: impl Fn(&str, &str) -> Vec<String>,
    ) -> Result<Owned, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("wylis-test-{}-{}", id(), MADE.fetch_add(1, Ordering::Relaxed));
        let label = format!("{LABEL}={}", id());
        // Owned before the command: a container that does not start is removed too.
        let owned = Owned { kind, name };
        docker(&command(&owned.name, &label))?;
        Ok(owned)
    }
}

impl Owned {
    /// Its name in the engine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A field of `docker inspect`, as a Go template.
    ///
    /// # Errors
    /// When the engine does not know the field.
    pub fn inspect(&self, template: &str) -> Result<String, String> {
        docker(&["inspect", "--format", template, &self.name])
    }

    /// A container's standard output, then its standard error.
    ///
    /// # Errors
    /// When the engine does not know it.
    pub fn logs(&self) -> Result<String, String> {
        let output = output(&["logs", &self.name])?;
        let streams = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&streams).into_owned())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Best effort: the next test removes leftovers.
        let _ = docker(&[self.kind.removal(), &[self.name.as_str()]].concat());
    }
}

/// Removes the objects of tests that no longer run.
fn sweep(kind: Kind) {
    let (list, name) = kind.listing();
    let filter = ["--filter", "label=wylis.test", "--format", name];
    let Ok(names) = docker(&[list, &filter].concat()) else { return };
    for name in names.lines() {
        let pid = name.split('-').nth(2).unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            let _ = docker(&[kind.removal(), &[name]].concat());
        }
    }
}
