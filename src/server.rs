//! tiny_http on a private socket, and the routes it answers.
//!
//! It gets only requests that the gate has checked, over four connections that are opened here and
//! handed to the gate; no other can exist. tiny_http is never stopped or dropped, since it aborts when
//! it is dropped on an abstract socket.

mod body;
mod page;
mod private;
mod renderer;
mod routes;

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use prometheus::proto::MetricFamily;

use crate::history::{Day, Recollection};
use crate::matrix::{Matrix, RowError};
use crate::name::{Instance, NodeName};
use crate::route::Lanes;
use crate::state::Snapshot;
use crate::token::Token;
use crate::wire::KeepAlive;

pub use page::{PAGE_HEADERS, page};
pub use renderer::{CACHE_TIME, Renderer};

/// The thread that answers small requests and hands the others to threads of their own.
const HANDLER: &str = "server";
/// For rendering metrics and JSON; virtual memory until used.
const HANDLER_STACK: usize = 256 * 1024;
/// The same and for compressing, whose state of 66 KB an unoptimized build copies five times.
const ANSWER_STACK: usize = 1024 * 1024;

/// What the server needs of the agent, which implements it.
pub trait Views: Send + Sync + 'static {
    /// The agent's node.
    fn node(&self) -> &NodeName;
    /// The agent's instance.
    fn instance(&self) -> &Instance;
    /// Takes a keep-alive request that was answered, and the client's address; `None` when it names no valid
    /// source.
    fn request_received(&self, request: Option<KeepAlive>, client: Option<IpAddr>);
    /// The seal for the answer to a request that does not show this agent's token.
    fn seal(&self, request: &KeepAlive) -> Option<Token>;
    /// Whether the agent is about to stop.
    fn draining(&self) -> bool;
    /// Whether the agent's own loops make progress.
    ///
    /// # Errors
    /// The reason, in one line.
    fn healthy(&self) -> Result<(), String>;
    /// Whether the agent has a list of peers and is not draining.
    ///
    /// # Errors
    /// The reason, in one line.
    fn ready(&self) -> Result<(), String>;
    /// All peers at this moment; `None` when the agent does not respond.
    fn snapshot(&self) -> Option<Arc<Snapshot>>;
    /// What the answers share.
    fn renderer(&self) -> &Renderer;
    /// The metrics of the agent itself.
    fn agent_metrics(&self) -> Vec<MetricFamily>;
    /// The rows of all nodes, which may take seconds; `None` when the agent does not respond.
    fn matrix(&self) -> Option<Arc<Matrix>>;
    /// What the agent remembers of its peers; `None` when it does not respond.
    fn recollection(&self) -> Option<Arc<Recollection>>;
    /// The matrix of a past second, which may take seconds; `None` when the agent does not respond.
    fn past_matrix(&self, recollection: &Recollection, seconds: u64) -> Option<Arc<Matrix>>;
    /// The last day of the mesh, which may take seconds; `None` when the agent does not respond.
    fn day(&self) -> Option<Arc<Day>>;
    /// How far the survey is, as a document.
    fn survey(&self) -> Vec<u8>;
    /// Decides on a command of a survey: the status, and a line or a document. May take seconds. `client` is
    /// the address of one that may be a person on this host.
    fn command(
        &self,
        command: &str,
        sender: Option<KeepAlive>,
        client: Option<IpAddr>,
    ) -> (u16, Vec<u8>);
    /// The document that `peer` sends, which may take seconds; [`RowError::NoPeer`] if it is none in `snapshot`.
    ///
    /// # Errors
    /// Why it did not come.
    fn fetch(&self, snapshot: &Snapshot, peer: &NodeName, ask: Ask) -> Result<Vec<u8>, RowError>;
}

/// A document to ask a peer for.
#[derive(Debug)]
pub struct Ask {
    /// Its path.
    pub path: String,
    /// Maximum bytes, as sent and as inflated.
    pub max_bytes: usize,
    /// Another agent waits for it, which has spent a part of its own deadline.
    pub is_for_another: bool,
}

/// Starts the server and its thread `server`, which ends with the process.
///
/// # Errors
/// When the socket, a thread or the first answer fails.
pub fn start(views: Arc<dyn Views>) -> io::Result<Lanes<UnixStream>> {
    let private::Private { listener, shut, streams } = private::listen()?;
    check_threads()?;
    let server = tiny_http::Server::from_listener(listener, None);
    let server = server.map_err(|error| io::Error::other(format!("start the server: {error}")))?;
    // Never dropped, which would abort.
    let server: &'static tiny_http::Server = Box::leak(Box::new(server));
    std::thread::Builder::new()
        .name(HANDLER.to_owned())
        .stack_size(HANDLER_STACK)
        .spawn(move || handle(server, &views))?;
    for stream in &streams {
        private::greet(stream)?;
    }
    drop(shut);
    let [small, bulk, gathered, pair] = streams;
    Ok(Lanes { small, bulk, gathered, pair })
}

/// Starts as many threads as the server will, and ends them: where the kernel refuses one, this is an
/// error, but tiny_http would panic. Later it starts none, since it accepts no further connection.
fn check_threads() -> io::Result<()> {
    /// Of tiny_http: one that accepts, four of its pool, another for each connection that comes before
    /// those are idle. And those that answer.
    const THREADS: usize = 12;
    /// For threads that do nothing.
    const STACK: usize = 16 * 1024;
    let hold = Mutex::new(());
    std::thread::scope(|scope| {
        let _held = hold.lock();
        (0..THREADS).try_for_each(|_| {
            let builder = std::thread::Builder::new().stack_size(STACK);
            let thread = builder.spawn_scoped(scope, || drop(hold.lock()));
            thread.map(drop).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot start its threads: {error}"))
            })
        })
    })
}

/// Whether this is the thread that answers `/keepalive` too: it waits for no client, and compresses nothing.
fn on_the_handler() -> bool {
    std::thread::current().name() == Some(HANDLER)
}

fn handle(server: &tiny_http::Server, views: &Arc<dyn Views>) {
    loop {
        // The only error is the end of the accept thread, which occurs once.
        if let Ok(request) = server.recv() {
            routes::answer(request, views);
        }
    }
}
