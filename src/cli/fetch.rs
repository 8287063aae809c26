//! Fetches documents from an agent.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Exit, print};
use crate::document::ReadError;
use crate::host_port::HostPort;
use crate::probe::Phase;
use crate::prober::{Fetch, FetchError, fetch, post};
use crate::wire::{SURVEY, SURVEY_PATH};

/// Time limit of a fetch from one address; an agent may collect rows for 2 s before it answers.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of a command: the agent first asks all peers.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest document: the command shares the 32 MiB of the pod with the agent.
const MAX_LENGTH: usize = 12 * 1024 * 1024;
/// What to do where no agent listens.
const NAME_ONE: &str = "name one with --agent HOST:PORT, or set WYLIS_LISTEN as the agent has it";

/// All addresses of a target.
pub(super) fn resolve(target: &HostPort) -> Result<Vec<SocketAddr>, Exit> {
    target.resolve().map_err(|error| Exit::Failed(format!("resolve {}: {error}", target.host())))
}

/// Fetches the document at `path` from the first address that connects: `localhost` is `::1` and
/// `127.0.0.1`, and the agent may listen on one of them only.
pub(super) fn document(addresses: &[SocketAddr], path: &str) -> Result<Vec<u8>, Exit> {
    first(addresses, &format!("get {path}"), |address| {
        fetch(Fetch {
            node: None,
            address,
            path: path.to_owned(),
            timeout: TIMEOUT,
            max_bytes: MAX_LENGTH,
        })
    })
}

/// Sends a command of a survey to the first address that connects: the status and the content of the answer.
pub(super) fn command(addresses: &[SocketAddr], command: &str) -> Result<(u16, Vec<u8>), Exit> {
    first(addresses, &format!("post {SURVEY_PATH}"), |address| {
        post(address, SURVEY_PATH, &[(SURVEY, command)], COMMAND_TIMEOUT, MAX_LENGTH)
    })
}

/// The result of the first address that connects.
fn first<T>(
    addresses: &[SocketAddr],
    what: &str,
    request: impl Fn(SocketAddr) -> Result<T, FetchError>,
) -> Result<T, Exit> {
    let mut errors = Vec::new();
    for &address in addresses {
        let error = match request(address) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        errors.push((address, error));
        if !is_unconnected(error) && !matches!(error, FetchError::Local(_)) {
            break;
        }
    }
    let is_silent = errors.iter().all(|(_, error)| is_unconnected(*error));
    let tried = errors.iter().map(|&(address, error)| {
        let reason = describe(error);
        if is_silent {
            format!("{address} ({reason})")
        } else {
            format!("from {address}: {reason}")
        }
    });
    let tried = tried.collect::<Vec<_>>().join(", ");
    Err(Exit::Failed(if is_silent {
        format!("no agent answers at {tried}: {NAME_ONE}")
    } else {
        format!("{what} {tried}")
    }))
}

fn is_unconnected(error: FetchError) -> bool {
    matches!(error, FetchError::Failure(reason) if reason.phase() == Phase::Connect)
}

fn describe(error: FetchError) -> String {
    match error {
        FetchError::Failure(reason) => reason.to_string(),
        FetchError::Local(error) => format!("local error {error}"),
        FetchError::TooLarge => format!("answer longer than {MAX_LENGTH} bytes"),
        FetchError::Status(404) => "status 404: an older release without this route".to_owned(),
        FetchError::Status(status) => format!("status {status}"),
    }
}

/// The error for a document that cannot be read.
pub(super) fn unreadable(path: &str, error: ReadError) -> Exit {
    Exit::Failed(match error {
        ReadError::Version => format!("read {path}: unsupported version of the format"),
        ReadError::Malformed | ReadError::OtherNode => format!("read {path}: malformed"),
    })
}

/// Prints a document unchanged.
pub(super) fn print_raw(document: Vec<u8>) -> Result<(), Exit> {
    let text = String::from_utf8(document);
    print(&text.map_err(|_| Exit::Failed("read document: not UTF-8".to_owned()))?)
}
