//! The private socket. It is abstract, so it needs no file system, but every process in the network
//! namespace can connect to it. So it is shut before the first connection is accepted.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::wire;

/// With a backlog of 3, Linux queues 4 connections: the own ones, and no fifth. tiny_http starts with 4
/// threads, so that none of them waits for another to end.
const BACKLOG: i32 = 3;
/// Another process may connect first. One that always does causes an error.
const ATTEMPTS: usize = 16;
/// For the first answer on a connection, while threads start on a loaded machine.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum bytes of the first answer.
const MAX_GREETING: usize = 4096;

/// The socket and its connections.
pub(super) struct Private {
    /// Has the own connections in its queue, and gets no others.
    pub(super) listener: UnixListener,
    /// The same socket: it stays shut while this is open.
    pub(super) shut: UnixListener,
    /// The own connections.
    pub(super) streams: [UnixStream; 4],
}

/// Opens the socket, connects to it, and shuts it.
pub(super) fn listen() -> io::Result<Private> {
    let mut last = io::Error::other("no attempt");
    for _ in 0..ATTEMPTS {
        match attempt() {
            Ok(private) => return Ok(private),
            Err(error) => last = error,
        }
    }
    Err(io::Error::new(last.kind(), format!("open the private socket: {last}")))
}

fn attempt() -> io::Result<Private> {
    // A random name: the process id is 1 in every container.
    let name = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let address = SockAddr::unix(format!("\0wylis-{}", name.trim()))?;
    let listener = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    listener.bind(&address)?;
    listener.listen(BACKLOG)?;
    let connect = || {
        // Non-blocking, so that it fails instead of waiting when another process took the place.
        let stream = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
        stream.connect(&address)?;
        stream.set_nonblocking(false)?;
        Ok::<UnixStream, io::Error>(stream.into())
    };
    let streams = [connect()?, connect()?, connect()?, connect()?];
    let listener: UnixListener = listener.into();
    let shut = listener.try_clone()?;
    // The queued connections can still be accepted; no other can connect.
    rustix::net::shutdown(&shut, rustix::net::Shutdown::Both)?;
    Ok(Private { listener, shut, streams })
}

/// Reads one answer, to prove that the connection is accepted and served.
pub(super) fn greet(mut stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
    let request = format!("HEAD / HTTP/1.1\r\nHost: wylis\r\n{}: 0\r\n\r\n", wire::SEQUENCE);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 512];
    while !answer.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut chunk)?;
        answer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if count == 0 || answer.len() > MAX_GREETING {
            let _ = stream.shutdown(Shutdown::Both);
            return Err(io::Error::other("the server's first answer is malformed"));
        }
    }
    stream.set_read_timeout(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_connection_is_accepted() {
        let Private { listener, shut: _shut, streams } = listen().unwrap();
        let address = listener.local_addr().unwrap();
        for _ in &streams {
            assert!(UnixStream::connect_addr(&address).is_err());
            assert!(listener.accept().is_ok());
        }
        assert!(listener.accept().is_err());
        assert!(UnixStream::connect_addr(&address).is_err());
    }
}
