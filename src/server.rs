//! tiny_http on a private socket, and the routes it answers.
//!
//! Whatever reaches it was checked by the gate. Only two connections ever exist: they are made
//! here, before anybody else could, and handed to the gate. tiny_http is neither stopped nor
//! dropped: it lives until the process exits (dropped on an abstract socket, it aborts).

mod body;
mod json;
mod private;
mod routes;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::name::{Instance, NodeName};
use crate::wire::KeepAlive;

pub use json::peers_json;
pub use routes::{LABELS, Route, route};

/// One request in flight on each of the two connections.
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
    /// This node's row as JSON; `None` when the agent does not answer.
    fn peers(&self) -> Option<Chunks>;
}

/// The only two connections to the server.
#[derive(Debug)]
pub struct Kept {
    /// For the routes of small answers.
    pub small: UnixStream,
    /// For the others.
    pub bulk: UnixStream,
}

/// Starts the server, and its threads "server-0" and "server-1", which end with the process.
///
/// # Errors
/// When there is no socket, no thread, or no answer.
pub fn start(views: Arc<dyn Views>) -> io::Result<Kept> {
    let (listener, door, small, bulk) = private::listen()?;
    let server = tiny_http::Server::from_listener(listener, None);
    let server = server.map_err(|error| io::Error::other(format!("start the server: {error}")))?;
    // Never dropped: that would abort.
    let server: &'static tiny_http::Server = Box::leak(Box::new(server));
    for number in 0..HANDLERS {
        let views = Arc::clone(&views);
        std::thread::Builder::new()
            .name(format!("server-{number}"))
            .stack_size(HANDLER_STACK)
            .spawn(move || handle(server, &*views))?;
    }
    for stream in [&small, &bulk] {
        private::greet(stream)?;
    }
    drop(door);
    Ok(Kept { small, bulk })
}

fn handle(server: &tiny_http::Server, views: &dyn Views) {
    loop {
        // An error is only the accept thread's end, told once.
        if let Ok(request) = server.recv() {
            routes::answer(request, views);
        }
    }
}
