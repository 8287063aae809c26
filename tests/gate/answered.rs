//! Responses that are sent and not acknowledged: the gate holds a bounded number of their sockets, and
//! leaves none to the kernel.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use wylis_harness::bounds::worst_case;
use wylis_harness::netns::{Entrance, Namespace};

use crate::child::{GateProcess, Options, TIMEOUT};
use crate::client::{
    End, assert_probes_pass, connect, connect_with_small_buffer, get, probe, read_all, reset,
    send_request,
};
use crate::memory::{Kernel, kernel_memory};

/// A gate in a network of its own, in which clients of 127.9.0.0/16 receive no FIN, and so no end of a
/// response, and send no reset.
struct Lossy {
    inside: Entrance,
    gate: GateProcess,
    _namespace: Namespace,
}

impl Lossy {
    fn start(label: &str, options: &Options) -> Option<Self> {
        let namespace = Namespace::new(label)?;
        namespace.nft(
            "table ip t {\n chain in {\n type filter hook input priority 0;\n \
             ip daddr 127.9.0.0/16 tcp flags & fin == fin drop\n \
             ip saddr 127.9.0.0/16 tcp flags & rst == rst drop\n }\n}\n",
        );
        let inside = namespace.entrance();
        let gate = inside.within(|| GateProcess::start(options));
        Some(Self { inside, gate, _namespace: namespace })
    }

    /// Clients with these numbers, each from its own address. They vanish after their requests; every
    /// other one half-closes first, and all without a request do. Returns what the kernel holds once the
    /// gate has answered all of them.
    fn vanish(&self, requests: &[&str], numbers: std::ops::Range<usize>) -> Kernel {
        let address = self.gate.address;
        self.inside.within(|| {
            for number in numbers {
                let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
                let request = requests[number % requests.len()];
                // A gate with few places may evict it at once.
                let Ok(mut stream) = connect_from(([127, 9, high, low], 0), address) else {
                    continue;
                };
                let _ = stream.write_all(request.as_bytes());
                if request.is_empty() || number / requests.len() % 2 == 1 {
                    let _ = stream.shutdown(Shutdown::Write);
                }
                reset(stream);
            }
        });
        self.inside.within(|| {
            let mut kernel = kernel_memory(address);
            wylis_harness::wait_until(TIMEOUT, "all requests are answered", || {
                kernel = kernel_memory(address);
                kernel.unacknowledged == kernel.sockets
            });
            kernel
        })
    }
}

fn connect_from(source: ([u8; 4], u16), address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(source).into()).unwrap();
    socket.connect_timeout(&address.into(), TIMEOUT)?;
    Ok(socket.into())
}

const PROBE: &str = "GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Node: n\r\n\r\n";
const LARGE: &str =
    "GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Node: n\r\nWylis-Size: 10240\r\n\r\n";

#[test]
fn vanished_clients_leave_few_sockets_and_little_memory() {
    let Some(lossy) = Lossy::start("vanish", &Options::new(70)) else { return };
    let requests = [
        PROBE,
        LARGE,
        "GET /healthz HTTP/1.0\r\n\r\n",
        "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\r\n\r\n",
        "",
    ];
    let mut most = Kernel::default();
    for round in 0..16 {
        most = most.max(lossy.vanish(&requests, round * 100 + 1..round * 100 + 101));
    }
    println!("at most {most:?}");
    assert!(most.unacknowledged >= 200, "the clients did not vanish: {most:?}");
    // Without the refused ones, for whose close the gate waits.
    assert!(most.unacknowledged as f64 - 32.0 <= worst_case("MAX_ANSWERED"), "{most:?}");
    let Lossy { inside, mut gate, _namespace } = lossy;
    inside.within(move || assert_probes_pass(&mut gate));
}

#[test]
fn unread_large_responses_are_bounded_in_bytes() {
    let Some(lossy) = Lossy::start("unread", &Options { metrics: 100_000, ..Options::new(71) })
    else {
        return;
    };
    let scrape = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut most = Kernel::default();
    for round in 0..20 {
        let numbers = round * 20 + 1..round * 20 + 21;
        most = most.max(lossy.vanish(&[LARGE, LARGE, LARGE, LARGE, scrape], numbers));
    }
    println!("at most {most:?}");
    assert!(most.buffers as f64 <= worst_case("MAX_ANSWERED_BYTES"), "{most:?}");
    let Lossy { inside, mut gate, _namespace } = lossy;
    inside.within(move || assert_probes_pass(&mut gate));
}

/// Reads this many bytes in pieces, with a pause before each.
fn read_slowly(stream: &mut TcpStream, pieces: u32, pause: Duration) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    for _ in 0..pieces {
        std::thread::sleep(pause);
        let mut piece = vec![0; 2048];
        let count = stream.read(&mut piece).unwrap();
        all.extend_from_slice(&piece[..count]);
    }
    let (rest, end) = read_all(stream);
    all.extend(rest);
    (all, end)
}

#[test]
fn slow_reader_still_gets_its_response() {
    let mut gate = GateProcess::start(&Options { metrics: 100_000, ..Options::new(72) });
    let expected = get(gate.address, "/metrics");
    let mut slow = connect_with_small_buffer(gate.address);
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let whole = send_request(gate.address, LARGE.as_bytes());
    let mut large = connect_with_small_buffer(gate.address);
    large.write_all(LARGE.as_bytes()).unwrap();
    gate.wait_for_counter("/keepalive:200", |count| count == 2);
    let reader = std::thread::spawn(move || read_slowly(&mut large, 3, Duration::from_secs(1)));
    let (response, end) = read_slowly(&mut slow, 3, Duration::from_secs(1));
    let body = |text: &str| text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap();
    assert_eq!((body(&String::from_utf8(response).unwrap()), end), (body(&expected), End::Closed));
    let (response, end) = reader.join().unwrap();
    let response = String::from_utf8(response).unwrap();
    assert_eq!((body(&response), end), (body(&whole), End::Closed));
    assert_probes_pass(&mut gate);
}

#[test]
fn client_that_received_the_fin_is_never_reset() {
    let mut gate = GateProcess::start(&Options::new(73));
    let mut clients: Vec<_> = (0..200).map(|_| connect(gate.address)).collect();
    for client in &mut clients {
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    gate.wait_for_counter("/healthz:200", |count| count == 200);
    // The clients' kernel acknowledges with a delay.
    wylis_harness::wait_until(TIMEOUT, "the FINs are acknowledged", || {
        kernel_memory(gate.address).unacknowledged == 0
    });
    // Each of these makes the gate look at the others.
    for _ in 0..300 {
        assert!(probe(gate.address).is_some());
    }
    for client in &mut clients {
        let (response, end) = read_all(client);
        assert!(response.ends_with(b"ok\n") && end == End::Closed, "{end:?}");
        let error = client.take_error().unwrap();
        assert!(error.is_none(), "{error:?}");
    }
    assert_eq!(gate.counter("client_gone"), 0);
    wylis_harness::wait_until(TIMEOUT, "their descriptors are closed", || {
        assert!(probe(gate.address).is_some());
        gate.descriptors() < 30
    });
}

#[test]
fn few_descriptors_suffice_for_clients_that_vanish() {
    for (net, descriptors) in [(74, 64), (75, 128), (76, 192)] {
        let options = Options { descriptors: Some(descriptors), ..Options::new(net) };
        let Some(mut lossy) = Lossy::start("few", &options) else { return };
        let most = lossy.vanish(&[PROBE], 1..201);
        let bound = if descriptors == 192 { 10 } else { 8 };
        assert!((1..=bound).contains(&most.unacknowledged), "of {descriptors}: {most:?}");
        assert_eq!(lossy.gate.counter("no_descriptors"), 0, "of {descriptors}");
        let Lossy { inside, mut gate, _namespace } = lossy;
        inside.within(move || assert_probes_pass(&mut gate));
    }
}

#[test]
fn answered_connections_yield_their_descriptors_before_any_client() {
    let options = Options { descriptors: Some(192), head: 20_000, ..Options::new(77) };
    let Some(mut lossy) = Lossy::start("yield", &options) else { return };
    let before = lossy.vanish(&[PROBE], 1..9);
    assert_eq!(before.unacknowledged, 8, "{before:?}");
    lossy.gate.send("grab");
    lossy.gate.wait_for_line("GRABBED");
    let address = lossy.gate.address;
    // An accept without a descriptor may come before the connection, and frees one too.
    let silent: Vec<_> = lossy.inside.within(|| (0..4).map(|_| connect(address)).collect());
    lossy.gate.wait_for_counter("connections", |open| open == 4);
    let after = lossy.inside.within(|| kernel_memory(address));
    assert!(after.unacknowledged <= 4, "{after:?}");
    assert_eq!((lossy.gate.counter("evicted"), lossy.gate.counter("no_descriptors")), (0, 0));
    drop(silent);
}

#[test]
fn stop_closes_answered_connections_and_the_kernel_delivers() {
    let mut gate = GateProcess::start(&Options::new(78));
    let mut slow = connect_with_small_buffer(gate.address);
    slow.write_all(LARGE.as_bytes()).unwrap();
    gate.wait_for_counter("/keepalive:200", |count| count == 1);
    gate.wait_for_counter("connections", |open| open == 0);
    let begin = Instant::now();
    gate.send("stop");
    gate.wait_for_line("STOPPED");
    assert!(begin.elapsed() < Duration::from_millis(900), "it waited for {:?}", begin.elapsed());
    assert_eq!(gate.exit_code(), Some(0));
    let (response, end) = read_all(&mut slow);
    assert_eq!((response.len() > 10_240, end), (true, End::Closed));
}

#[test]
fn host_that_vanishes_often_resets_no_other_client() {
    let Some(lossy) = Lossy::start("often", &Options::new(83)) else { return };
    let address = lossy.gate.address;
    let mut slow = lossy.inside.within(|| {
        let mut slow = connect_with_small_buffer(address);
        slow.write_all(LARGE.as_bytes()).unwrap();
        // More than the gate holds.
        for port in 20_000..20_400 {
            let mut stream = connect_from(([127, 9, 0, 1], port), address).unwrap();
            stream.write_all(PROBE.as_bytes()).unwrap();
            reset(stream);
        }
        slow
    });
    let Lossy { inside, mut gate, _namespace } = lossy;
    gate.wait_for_counter("/keepalive:204", |count| count == 400);
    assert!(gate.counter("client_gone") >= 100, "{}", gate.counter("client_gone"));
    let (response, end) = read_all(&mut slow);
    assert_eq!((response.len() > 10_240, end), (true, End::Closed));
    inside.within(move || assert_probes_pass(&mut gate));
}
