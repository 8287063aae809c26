//! The process: its arguments, the agent or a command, its exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use wylis::agent;
use wylis::cli::{self, Exit, Invocation};
use wylis::config::{self, Config};
use wylis::logger;
use wylis::shutdown::StopToken;

#[cfg(all(target_env = "musl", panic = "abort", not(debug_assertions)))]
mod unwinding;

/// Signals closer together than this count as one: some senders signal the process and its group.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(text).collect();
    let environment: Vec<_> =
        std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let exit = match Invocation::parse(&arguments) {
        Ok(Invocation::Agent) => match config::read(&arguments, environment) {
            Ok(config) => return run_agent(&config),
            Err(errors) => Exit::Usage(errors),
        },
        Ok(Invocation::Command(command)) => {
            let arguments = arguments.get(1..).unwrap_or_default();
            cli::run(command, arguments, &environment)
        }
        Ok(Invocation::Help) => cli::print_and_exit(&config::help()),
        Ok(Invocation::Version) => {
            cli::print_and_exit(concat!("wylis ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        Err(error) => Exit::Usage(vec![error]),
    };
    report(&exit);
    ExitCode::from(exit.code())
}

/// Replaces what is not UTF-8 with a character that no setting allows, so that validation refuses it.
fn text(text: OsString) -> String {
    text.to_string_lossy().into_owned()
}

#[expect(clippy::print_stderr, reason = "the logger starts after the settings are valid")]
fn report(exit: &Exit) {
    match exit {
        Exit::Failed(error) => eprintln!("wylis: {error}"),
        Exit::Usage(errors) => errors.iter().for_each(|error| eprintln!("wylis: {error}")),
        Exit::Healthy | Exit::Interrupted | Exit::Unhealthy => {}
    }
}

fn run_agent(config: &Config) -> ExitCode {
    let lost = logger::start(&config.log);
    let stop = StopToken::new();
    let result = stop_on_signals(&stop)
        .map_err(|error| format!("handle signals: {error}"))
        .and_then(|()| agent::run(config, &stop, lost).map_err(|error| error.to_string()));
    let exit = result.map_or_else(Exit::Failed, |()| Exit::Healthy);
    if let Exit::Failed(error) = &exit {
        log::error!("{error}");
    }
    log::logger().flush();
    ExitCode::from(exit.code())
}

/// Handles signals, because process 1 of a container has no default action: without a handler only
/// SIGKILL ends it.
fn stop_on_signals(stop: &StopToken) -> Result<(), ctrlc::Error> {
    let stop = stop.clone();
    let mut first: Option<Instant> = None;
    ctrlc::set_handler(move || match first {
        None => {
            first = Some(Instant::now());
            log::info!("received a signal, stopping");
            stop.stop();
        }
        Some(first) if first.elapsed() < ONE_SIGNAL => {}
        Some(_) => {
            log::warn!("received a second signal, exiting at once");
            log::logger().flush();
            std::process::exit(Exit::Interrupted.code().into());
        }
    })
}
