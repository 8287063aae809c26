//! How the process ends, and the exit code of each.

use crate::config::SettingError;

/// How the agent or a command ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit {
    /// The agent stopped as asked, or a command found nothing wrong.
    Healthy,
    /// A part of the agent failed, or a command got no answer; the reason.
    Failed(String),
    /// The arguments or settings are wrong; nothing was started.
    Usage(Vec<SettingError>),
    /// A second signal cut the agent's drain short.
    Interrupted,
    /// A command found a peer down or flaky, got a finding, a probe of it failed, or a path goes cold.
    Unhealthy,
}

impl Exit {
    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Interrupted => 3,
            Self::Unhealthy => 4,
        }
    }
}
