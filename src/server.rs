//! tiny_http on a private socket, and the routes it answers.
//!
//! Whatever reaches it was checked by the gate. Only three connections ever exist: they are made
//! here, before anybody else could, and handed to the gate. tiny_http is neither stopped nor
//! dropped: it lives until the process exits (dropped on an abstract socket, it aborts).

mod body;
mod document;
mod json;
mod page;
mod private;
mod routes;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::name::{Instance, NodeName};
use crate::route::Lanes;
use crate::wire::KeepAlive;

pub use document::{Document, NotShown, Shown};
pub use json::{peer_json, peers_json};
pub use page::{PAGE, PAGE_HEADERS};

/// One request in flight on each connection but the third, whose requests have threads of their own.
const HANDLERS: usize = 2;
/// For rendering metrics and JSON; virtual until used.
const HANDLER_STACK: usize = 256 * 1024;

/// A body as it is made, piece by piece.
pub type Chunks = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// What the server shows, and whom it tells; the agent implements it.
pub trait Views: Send + Sync + 'static {
    /// The answering node.
    fn node(&self) -> &NodeName;
    /// This life of the agent.
    fn instance(&self) -> &Instance;
    /// A keep-alive request was answered; `None` when it named no valid source.
    fn heard(&self, said: Option<KeepAlive>);
    /// Whether the agent is about to stop.
    fn draining(&self) -> bool;
    /// Whether the agent's own loops move.
    ///
    /// # Errors
    /// The reason, in one line.
    fn healthy(&self) -> Result<(), String>;
    /// Whether a list of peers was had, and the agent is not draining.
    ///
    /// # Errors
    /// The reason, in one line.
    fn ready(&self) -> Result<(), String>;
    /// The Prometheus text; `None` when the agent does not answer.
    fn metrics(&self) -> Option<Chunks>;
    /// This node's row as JSON, with all details.
    ///
    /// # Errors
    /// When the agent does not answer.
    fn peers(&self) -> Shown;
    /// One peer of that row.
    ///
    /// # Errors
    /// When the agent does not answer, or has no such peer.
    fn peer(&self, node: &NodeName) -> Shown;
    /// This node's row as those read it who collect rows.
    ///
    /// # Errors
    /// When the agent does not answer.
    fn row(&self) -> Shown;
    /// The rows of all nodes. May take seconds.
    ///
    /// # Errors
    /// When the agent does not answer.
    fn cluster(&self) -> Shown;
    /// One peer of another node's row. May take seconds.
    ///
    /// # Errors
    /// When the agent does not answer, or either is not known.
    fn pair(&self, source: &NodeName, target: &NodeName) -> Shown;
}

/// Starts the server, and its threads "server-0" and "server-1", which end with the process.
///
/// # Errors
/// When there is no socket, no thread, or no answer.
pub fn start(views: Arc<dyn Views>) -> io::Result<Lanes<UnixStream>> {
    let private::Private { listener, door, streams } = private::listen()?;
    let server = tiny_http::Server::from_listener(listener, None);
    let server = server.map_err(|error| io::Error::other(format!("start the server: {error}")))?;
    // Never dropped: that would abort.
    let server: &'static tiny_http::Server = Box::leak(Box::new(server));
    for number in 0..HANDLERS {
        let views = Arc::clone(&views);
        std::thread::Builder::new()
            .name(format!("server-{number}"))
            .stack_size(HANDLER_STACK)
            .spawn(move || handle(server, &views))?;
    }
    for stream in &streams {
        private::greet(stream)?;
    }
    drop(door);
    let [small, bulk, gathered] = streams;
    Ok(Lanes { small, bulk, gathered })
}

fn handle(server: &tiny_http::Server, views: &Arc<dyn Views>) {
    loop {
        // An error is only the accept thread's end, told once.
        if let Ok(request) = server.recv() {
            routes::answer(request, views);
        }
    }
}
