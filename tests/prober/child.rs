//! Runs a test in a process of its own: for limits, thread counts and anything process-wide.

use std::process::Command;

const MARK: &str = "WYLIS_TEST_CHILD";

/// `true` in the child, where the test's body is to run. In the parent, runs the child (the test
/// called `name`, as the test runner knows it), requires that it passes, and returns `false`.
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
