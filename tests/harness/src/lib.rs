//! Shared by the tests and the demo: a fake API server and its certificates, agents as processes, network
//! namespaces, clients for HTTP, WebDriver and a real API server.
//!
//! The harness does not depend on the crate `wylis`: it uses the agent from outside. A failure here fails
//! the test, so functions panic rather than return errors.

pub mod api;
pub mod black_hole;
pub mod bounds;
pub mod browser;
pub mod capture;
pub mod cgroup;
pub mod device;
pub mod docker;
pub mod fake_peers;
pub mod gzip;
pub mod http;
pub mod kube;
pub mod manifest;
pub mod mesh;
pub mod netns;
pub mod pair_counters;
pub mod pki;
pub mod process;
pub mod rights;
pub mod yaml;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Environment variable: the file to which [`skip`] appends.
pub const SKIPS: &str = "WYLIS_SKIPS";
/// The pause of [`wait_until`] between two polls: short beside any deadline, and little CPU.
const POLL: Duration = Duration::from_millis(5);

/// Reports that the running test, or a part of it, is skipped: on standard error, past cargo's capture, and
/// in the file that `WYLIS_SKIPS` names, so that a run can list its skips.
///
/// # Panics
/// When the file cannot be written.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    // One line for each skip: the lines are counted.
    let reason = reason.lines().collect::<Vec<_>>().join(" ");
    let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
    let _ = write!(std::io::stderr(), "skipped: {line}");
    let Some(path) = std::env::var_os(SKIPS) else { return };
    // One write in append mode, so that lines of parallel tests do not mix.
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|error| panic!("append to {}: {error}", path.display()));
}

/// README.md and the pages of docs/, in one text.
///
/// # Panics
/// When a page is not readable.
#[must_use]
pub fn documentation() -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = std::fs::read_dir(root.join("docs")).expect("docs").flatten();
    let pages =
        pages.map(|page| page.path()).filter(|page| page.extension().is_some_and(|e| e == "md"));
    let pages = pages.chain([root.join("README.md")]);
    pages.map(|page| std::fs::read_to_string(page).expect("a readable page")).collect()
}

/// Polls a condition until it holds.
///
/// # Panics
/// When it does not hold within `limit`; the message contains `what`.
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// A temporary folder, removed when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Creates a folder with `label` in its name.
    ///
    /// # Panics
    /// When it cannot be created.
    #[must_use]
    pub fn new(label: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wylis-{}-{number}-{label}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("create {}: {error}", path.display()));
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A folder that cannot be removed may stay.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
