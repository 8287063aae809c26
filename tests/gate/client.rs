//! Clients, well-behaved and otherwise.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::child::{Agents, PATIENCE};

/// A connection with patience.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    try_connect(address).unwrap()
}

/// As [`connect`]; an error when the other side resets at once.
pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A connection that takes next to nothing of an answer.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

/// Reads all that comes.
pub(crate) fn read_all(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return (all, End::Closed),
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (all, End::Reset),
            Err(error) => panic!("after {} octets: {error}", all.len()),
        }
    }
}

/// Sends octets and reads the whole answer, which ends with the connection.
pub(crate) fn ask(address: SocketAddr, octets: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(octets).unwrap();
    let (answer, end) = read_all(&mut stream);
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(end, End::Closed, "after {answer:?}");
    answer
}

/// A GET of this path.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    ask(address, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
}

/// The status code of an answer, if it is one.
pub(crate) fn code(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Closes without a FIN.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// A peer's blank request, as the prober makes it: the time it took, if it was answered well.
pub(crate) fn probe(address: SocketAddr) -> Option<Duration> {
    let begin = Instant::now();
    let mut stream = connect(address);
    let request = format!(
        "GET /keepalive HTTP/1.1\r\nHost: {address}\r\nWylis-Node: peer-1\r\n\
         Wylis-Instance: 0f8fad5b\r\nWylis-Interval: 10000\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
        }
    }
    reset(stream);
    let answer = String::from_utf8(answer).unwrap();
    let good =
        answer.starts_with("HTTP/1.1 204 ") && answer.contains("\r\nWylis-Node: test-node\r");
    good.then(|| begin.elapsed())
}

/// The fields of every socket that the kernel lists for this local address (proc(5), /proc/net/tcp).
pub(crate) fn listed(address: SocketAddr) -> Vec<Vec<String>> {
    let std::net::IpAddr::V4(ip) = address.ip() else { unreachable!("tests of the gate use IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = sockets.lines().map(|line| line.split_whitespace().map(str::to_owned).collect());
    fields.filter(|fields: &Vec<String>| fields.get(1) == Some(&local)).collect()
}

/// Twenty of twenty probes are answered, each within its timeout.
pub(crate) fn probes_pass(agents: &mut Agents) {
    for number in 0..20 {
        let took = probe(agents.address).unwrap_or_else(|| panic!("probe {number} failed"));
        assert!(took < Duration::from_secs(5), "probe {number} took {took:?}");
    }
    assert!(agents.is_alive());
}
