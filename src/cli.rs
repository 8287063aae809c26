//! Commands for operators: this node's peers, the matrix, the last day, single probes, and surveys.
//!
//! They are clients of an agent's routes. Only a survey changes what the agent does. A closed standard output ends
//! them without an error.

/// Appends formatted text to a `String`, which cannot fail.
macro_rules! put {
    ($text:expr, $($arguments:tt)*) => {{
        use std::fmt::Write as _;
        let _ = write!($text, $($arguments)*);
    }};
}

mod arguments;
mod cluster;
mod exit;
mod fetch;
mod history;
mod paint;
mod path;
mod peers;
mod probe;
mod survey;

use std::io::{ErrorKind, Write as _};
use std::time::Duration;

pub use arguments::{COMMANDS, Command, Invocation};
pub use exit::Exit;

use arguments::Options;

/// The environment variables of the process.
pub type Environment = [(String, String)];

fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Runs a command with the arguments after its name.
#[must_use]
pub fn run(command: Command, arguments: &[String], environment: &Environment) -> Exit {
    if arguments::has(arguments, ["--help", "-h"]) {
        return print_and_exit(&command.help());
    }
    let options = match Options::read(command, arguments, environment) {
        Ok(options) => options,
        Err(errors) => return Exit::Usage(errors),
    };
    let paint = paint::Paint::new(environment);
    let exit = match command {
        Command::Peers => peers::run(&options, paint),
        Command::Cluster => cluster::run(&options, paint),
        Command::History => history::run(&options, paint),
        Command::Probe if options.mtu || options.flows.is_some() => path::run(&options, paint),
        Command::Probe => probe::run(&options, paint),
        Command::Survey => survey::run(&options),
    };
    exit.unwrap_or_else(|exit| exit)
}

/// Prints a text as the whole output.
#[must_use]
pub fn print_and_exit(text: &str) -> Exit {
    print(text).err().unwrap_or(Exit::Healthy)
}

/// Writes to standard output. A closed output, such as a pipe to `head`, is the end and not an error.
fn print(text: &str) -> Result<(), Exit> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Exit::Healthy,
        _ => Exit::Failed(format!("write to standard output: {error}")),
    })
}

/// A text from the network without what controls a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

/// Formats a duration with three or four digits.
fn format_time(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..10_000 => format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10),
        10_000..1_000_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

/// Formats an age in whole units.
fn format_age(milliseconds: u64) -> String {
    match milliseconds / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
