//! A container engine for the tests: each object carries the test's pid, and goes when its owner is
//! dropped. What a killed test left behind is removed by the next one that asks for the engine.

use std::path::Path;
use std::process::{Command, Output, id};
use std::sync::atomic::{AtomicU32, Ordering};

/// The label on all that is made here; its value is the pid of the maker.
const LABEL: &str = "wylis.test";
/// The engine answers within a second, and takes ten to stop a container that does not listen.
const DEADLINE_SECONDS: &str = "60";

/// Proof that an engine answered.
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

    /// Lists all that carry the label: a name and the maker's pid to a line.
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
/// When it cannot be started, fails, or takes longer than a minute; the text says which command.
pub fn docker<S: AsRef<str>>(arguments: &[S]) -> Result<String, String> {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    let output = output(&arguments)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// As [`docker`], with all that it prints.
fn output(arguments: &[&str]) -> Result<Output, String> {
    let output = Command::new("timeout")
        .args([DEADLINE_SECONDS, "docker"])
        .args(arguments)
        // The builder that needs neither a plugin nor a registry.
        .env("DOCKER_BUILDKIT", "0")
        .output()
        .map_err(|error| format!("docker: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("docker {}: {}: {}", arguments.join(" "), output.status, said.trim_end()))
}

impl Engine {
    /// The engine that answers, after a look for leftovers.
    ///
    /// # Errors
    /// The reason why there is none, for a note on what is left out.
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

    /// Builds the agent's image from a binary made beforehand, with the project's own file.
    /// `context` is a folder for the binary to lie in.
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

    /// Creates a network with this subnet, so that containers can have fixed addresses in it.
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
        // Owned before it is made: a container that was made but does not start is removed too.
        let owned = Owned { kind, name };
        docker(&command(&owned.name, &label))?;
        Ok(owned)
    }
}

impl Owned {
    /// The name by which the engine knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One field of what the engine tells of it, in the syntax of Go's templates.
    ///
    /// # Errors
    /// When the engine does not know the field.
    pub fn inspect(&self, template: &str) -> Result<String, String> {
        docker(&["inspect", "--format", template, &self.name])
    }

    /// What a container wrote, to standard output and then to standard error.
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
        // Best effort: the next test's look for leftovers makes up for a failure.
        let _ = docker(&[self.kind.removal(), &[self.name.as_str()]].concat());
    }
}

/// Removes what tests made that no longer run.
fn sweep(kind: Kind) {
    let (list, name) = kind.listing();
    let filter = ["--filter", "label=wylis.test", "--format", name];
    let Ok(names) = docker(&[list, &filter].concat()) else { return };
    for name in names.lines() {
        let maker = name.split('-').nth(2).unwrap_or_default();
        if !Path::new("/proc").join(maker).exists() {
            let _ = docker(&[kind.removal(), &[name]].concat());
        }
    }
}
