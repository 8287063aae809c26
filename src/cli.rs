//! The commands for people on call: what the local agent knows, the matrix, and single probes.
//!
//! They are clients of an agent's routes and change nothing of it. What they write goes to standard
//! output as a whole; whoever stops reading it ends them quietly.

/// Appends to a text, which cannot fail.
macro_rules! put {
    ($text:expr, $($what:tt)*) => {{
        use std::fmt::Write as _;
        let _ = write!($text, $($what)*);
    }};
}

mod arguments;
mod cluster;
mod paint;
mod peers;
mod probe;

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

pub use arguments::{COMMANDS, Command};

use crate::config::SettingError;
use crate::matrix::ReadError;
use crate::prober::{Fetch, FetchError, fetch};
use arguments::Given;

/// An agent may gather for two seconds before it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The longest document that is read: the pod that this runs in has 32 MiB for the agent and for us.
const MAX_DOCUMENT: usize = 12 * 1024 * 1024;

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// All is well.
    Healthy,
    /// Something is not: a peer is down, a row is missing, a probe failed.
    Unhealthy,
    /// It could not be found out; why.
    Failed(String),
    /// It was asked for wrongly.
    Usage(Vec<SettingError>),
}

/// What of the environment matters here.
#[derive(Debug, Default)]
pub struct Environment {
    /// `WYLIS_LISTEN`, where the local agent listens.
    pub listen: Option<String>,
    /// `NO_COLOR` is set, and not empty.
    pub no_color: bool,
    /// `COLUMNS`, for what is no terminal.
    pub columns: Option<String>,
}

impl Environment {
    /// Takes what matters.
    pub fn read(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut known = Self::default();
        for (name, value) in variables {
            match name.as_str() {
                "WYLIS_LISTEN" => known.listen = Some(value),
                "NO_COLOR" => known.no_color = !value.is_empty(),
                "COLUMNS" => known.columns = Some(value),
                _ => {}
            }
        }
        known
    }
}

/// The command that `first`, the first argument, names.
#[must_use]
pub fn command(first: Option<&String>) -> Option<Command> {
    Command::ALL.into_iter().find(|command| first.is_some_and(|first| first == command.name()))
}

/// Runs a command with the arguments behind its name. `exit` tells the code of an ending, for what a
/// signal ends.
pub fn run(
    command: Command,
    arguments: &[String],
    environment: &Environment,
    exit: fn(&Ending) -> u8,
) -> Ending {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return say(&command.help()).map_or_else(|ending| ending, |()| Ending::Healthy);
    }
    let given = match Given::read(command, arguments, environment) {
        Ok(given) => given,
        Err(errors) => return Ending::Usage(errors),
    };
    let paint = paint::Paint::new(environment);
    let ended = match command {
        Command::Peers => peers::run(&given, paint),
        Command::Cluster => cluster::run(&given, paint),
        Command::Probe => probe::run(&given, paint, exit),
    };
    ended.unwrap_or_else(|ending| ending)
}

/// Writes to standard output. Nobody reads it any more: that is the end, and no fault.
fn say(text: &str) -> Result<(), Ending> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Ending::Healthy),
        Err(error) => Err(Ending::Failed(format!("write to standard output: {error}"))),
    }
}

/// A document of the agent at `address`.
fn document(address: SocketAddr, path: &str) -> Result<Vec<u8>, Ending> {
    let wanted = Fetch {
        node: None,
        address,
        path: path.to_owned(),
        timeout: ANSWER_WITHIN,
        max_bytes: MAX_DOCUMENT,
    };
    fetch(wanted).map_err(|fault| {
        let why = match fault {
            FetchError::Failure(reason) => reason.as_str().to_owned(),
            FetchError::Local(error) => format!("a fault of this host: {error}"),
            FetchError::TooLarge => format!("the answer has more than {MAX_DOCUMENT} bytes"),
            FetchError::Status(404) => {
                "an agent of an older release, without this route".to_owned()
            }
            FetchError::Status(status) => format!("it answers with status {status}"),
        };
        Ending::Failed(format!("no {path} from the agent at {address}: {why}"))
    })
}

/// What is said of a document that cannot be read.
fn unreadable(path: &str, error: ReadError) -> Ending {
    Ending::Failed(match error {
        ReadError::Version => format!("{path} is of another release's format"),
        ReadError::Malformed | ReadError::OtherNode => format!("{path} is no document of Wylis"),
    })
}

/// Prints a document as it is.
fn say_document(document: Vec<u8>) -> Result<(), Ending> {
    let text = String::from_utf8(document);
    say(&text.map_err(|_| Ending::Failed("the document is no text".to_owned()))?)
}

/// A time in the unit that suits it.
fn span(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..10_000 => format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10),
        10_000..1_000_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

/// An age in whole units.
fn age(milliseconds: u64) -> String {
    match milliseconds / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
