//! The private socket: an abstract one, which needs no file system and is open to every process of
//! the network namespace. So nobody but us gets in: the door shuts before anybody is let through.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::wire;

/// With a backlog of two, Linux lets three wait: ours, and no fourth.
const BACKLOG: i32 = 2;
/// Somebody else may have connected first; whoever does that all the time is worth an error.
const ATTEMPTS: usize = 16;
/// For the first answer on a connection: the threads are starting, on a loaded machine.
const GREETING: Duration = Duration::from_secs(10);
/// Longest head of the first answer.
const MAX_GREETING: usize = 4096;

/// What [`listen`] makes.
pub(super) struct Private {
    /// Our connections wait in it, and it takes no others.
    pub(super) listener: UnixListener,
    /// The same socket, which keeps it shut.
    pub(super) door: UnixListener,
    /// Our connections.
    pub(super) streams: [UnixStream; 3],
}

/// Opens the socket, connects to it, and shuts the door.
pub(super) fn listen() -> io::Result<Private> {
    let mut last = io::Error::other("no attempt");
    for _ in 0..ATTEMPTS {
        match attempt() {
            Ok(made) => return Ok(made),
            Err(error) => last = error,
        }
    }
    Err(io::Error::new(last.kind(), format!("open the private socket: {last}")))
}

fn attempt() -> io::Result<Private> {
    // The process id is 1 in every container: only a random name is our own.
    let name = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let address = SockAddr::unix(format!("\0wylis-{}", name.trim()))?;
    let listener = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    listener.bind(&address)?;
    listener.listen(BACKLOG)?;
    let connect = || {
        // Not blocking: when somebody else took the place, this fails instead of waiting.
        let stream = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
        stream.connect(&address)?;
        stream.set_nonblocking(false)?;
        Ok::<UnixStream, io::Error>(stream.into())
    };
    let streams = [connect()?, connect()?, connect()?];
    let listener: UnixListener = listener.into();
    let door = listener.try_clone()?;
    // What waits can still be accepted; nothing more can connect.
    rustix::net::shutdown(&door, rustix::net::Shutdown::Both)?;
    Ok(Private { listener, door, streams })
}

/// Gets one answer, so that the connection is known to be accepted and served.
pub(super) fn greet(mut stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(GREETING))?;
    let request = format!("HEAD / HTTP/1.1\r\nHost: wylis\r\n{}: 0\r\n\r\n", wire::SEQUENCE);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    while !answer.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut piece)?;
        answer.extend_from_slice(piece.get(..count).unwrap_or_default());
        if count == 0 || answer.len() > MAX_GREETING {
            let _ = stream.shutdown(Shutdown::Both);
            return Err(io::Error::other("the server's first answer is none"));
        }
    }
    stream.set_read_timeout(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_gets_in() {
        let Private { listener, door: _door, streams } = listen().unwrap();
        let address = listener.local_addr().unwrap();
        for _ in &streams {
            assert!(UnixStream::connect_addr(&address).is_err());
            assert!(listener.accept().is_ok());
        }
        assert!(listener.accept().is_err());
        assert!(UnixStream::connect_addr(&address).is_err());
    }
}
