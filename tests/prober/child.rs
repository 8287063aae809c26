//! Runs a test in a process of its own, for everything process-wide: limits, thread counts.

use std::process::Command;

const MARK: &str = "WYLIS_TEST_CHILD";

/// `true` in the child, which runs the test's body. The parent runs the child (the test called
/// `name` by the test runner), requires that it passes, and returns `false`.
pub(crate) fn enter(name: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name} in a child: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    false
}
