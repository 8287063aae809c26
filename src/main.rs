//! Arguments, build, run, exit codes.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use wylis::agent;
use wylis::cli::{self, Ending, Environment};
use wylis::config::{self, Command, Config};
use wylis::shutdown::StopToken;

/// The agent could not start, or a part of it that it cannot live without broke; a command could not
/// find out what it was asked for.
const EXIT_FAILURE: u8 = 1;
/// A setting is wrong; nothing was started.
const EXIT_USAGE: u8 = 2;
/// Some send a signal to the process and to its group: two so close together are one.
const ONE_SIGNAL: Duration = Duration::from_millis(500);
/// A second signal ended the drain.
const EXIT_CUT_SHORT: i32 = 3;
/// A command found something down.
const EXIT_UNHEALTHY: u8 = 4;

fn main() -> ExitCode {
    let all: Vec<String> = arguments().collect();
    let environment: Vec<(String, String)> = environment().collect();
    if let Some(command) = cli::command(all.first()) {
        let rest = all.get(1..).unwrap_or_default();
        return end(&cli::run(command, rest, &Environment::read(environment), code));
    }
    match config::read(all, environment) {
        Ok(Command::Help) => print(&config::help()),
        Ok(Command::Version) => print(concat!("wylis ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Run(config)) => run(&config),
        Err(errors) => end(&Ending::Usage(errors)),
    }
}

fn end(ending: &Ending) -> ExitCode {
    match ending {
        Ending::Healthy | Ending::Unhealthy => {}
        Ending::Failed(why) => complain(why),
        Ending::Usage(errors) => errors.iter().for_each(|error| complain(&error.to_string())),
    }
    ExitCode::from(code(ending))
}

fn code(ending: &Ending) -> u8 {
    match ending {
        Ending::Healthy => 0,
        Ending::Unhealthy => EXIT_UNHEALTHY,
        Ending::Failed(_) => EXIT_FAILURE,
        Ending::Usage(_) => EXIT_USAGE,
    }
}

fn run(config: &Config) -> ExitCode {
    // tiny_http calls the planned end of its accept thread an error; our own gate watches over it.
    let mut logger = env_logger::Builder::new();
    logger.filter_module("tiny_http", log::LevelFilter::Off).parse_filters(&config.log).init();
    log_panics();
    let stop = StopToken::new();
    let result = stop_on_signals(&stop)
        .map_err(|error| error.to_string())
        .and_then(|()| agent::run(config, &stop).map_err(|error| error.to_string()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Process 1 of a container has no default action for a signal: without this, only SIGKILL ends it.
fn stop_on_signals(stop: &StopToken) -> Result<(), ctrlc::Error> {
    let stop = stop.clone();
    let mut first: Option<Instant> = None;
    ctrlc::set_handler(move || match first {
        None => {
            first = Some(Instant::now());
            log::info!("a signal: stopping");
            stop.stop();
        }
        Some(first) if first.elapsed() < ONE_SIGNAL => {}
        Some(_) => {
            log::warn!("a second signal: ending at once");
            std::process::exit(EXIT_CUT_SHORT);
        }
    })
}

/// A dead thread ends the process (`panic = "abort"`); its last word goes where all others go.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log::error!("thread {:?} failed: {panic}", thread.name().unwrap_or("unnamed"));
    }));
}

// What is not UTF-8 gets a character that no setting allows, and is refused under its name.
fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned())
}

fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    // A reader that went away, such as `head`, is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "no logger yet: its own setting may be wrong")]
fn complain(text: &str) {
    eprintln!("wylis: {text}");
}
