//! Well-behaved and hostile clients.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::child::{GateProcess, TIMEOUT};

/// A connection with timeouts.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    try_connect(address).unwrap()
}

/// Like [`connect`]; an error if the peer resets at once.
pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// A connection that buffers hardly any of a response.
pub(crate) fn connect_with_small_buffer(address: SocketAddr) -> TcpStream {
    connect_from(Ipv4Addr::UNSPECIFIED, address)
}

/// The same, from this address.
pub(crate) fn connect_from(from: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Another address of the test's network.
pub(crate) fn neighbour(address: SocketAddr, last: u8) -> Ipv4Addr {
    let IpAddr::V4(ip) = address.ip() else { unreachable!("tests of the gate use IPv4") };
    let [a, b, c, _] = ip.octets();
    Ipv4Addr::new(a, b, c, last)
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

/// Reads to the end.
pub(crate) fn read_all(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return (all, End::Closed),
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (all, End::Reset),
            Err(error) => panic!("after {} bytes: {error}", all.len()),
        }
    }
}

/// Sends a request and reads the response, which ends with the connection.
pub(crate) fn send_request(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    let (response, end) = read_all(&mut stream);
    let response = String::from_utf8(response).unwrap();
    assert_eq!(end, End::Closed, "after {response:?}");
    response
}

/// A GET of this path.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    send_request(address, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
}

/// The status code of a response, if it is one.
pub(crate) fn status_code(response: &str) -> Option<u16> {
    response.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Closes without a FIN.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// A blank probe, as the prober sends it: its duration, if it succeeds.
pub(crate) fn probe(address: SocketAddr) -> Option<Duration> {
    let begin = Instant::now();
    let mut stream = connect(address);
    let request = format!(
        "GET /keepalive HTTP/1.1\r\nHost: {address}\r\nWylis-Node: peer-1\r\n\
         Wylis-Instance: 0f8fad5b\r\nWylis-Interval: 10000\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    let mut piece = [0; 1024];
    while !response.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => response.extend_from_slice(&piece[..count]),
        }
    }
    reset(stream);
    let response = String::from_utf8(response).unwrap();
    let good =
        response.starts_with("HTTP/1.1 204 ") && response.contains("\r\nWylis-Node: test-node\r");
    good.then(|| begin.elapsed())
}

/// The fields of all sockets with this local address in /proc/net/tcp (proc(5)).
pub(crate) fn kernel_sockets(address: SocketAddr) -> Vec<Vec<String>> {
    let IpAddr::V4(ip) = address.ip() else { unreachable!("tests of the gate use IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = sockets.lines().filter(|line| line.contains(&local));
    let fields = lines.map(|line| line.split_whitespace().map(str::to_owned).collect());
    fields.filter(|fields: &Vec<String>| fields.get(1) == Some(&local)).collect()
}

/// 20 of 20 probes succeed within their timeout.
pub(crate) fn assert_probes_pass(gate: &mut GateProcess) {
    for number in 0..20 {
        let took = probe(gate.address).unwrap_or_else(|| panic!("probe {number} failed"));
        assert!(took < Duration::from_secs(5), "probe {number} took {took:?}");
    }
    assert!(gate.is_alive());
}
