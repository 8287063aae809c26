//! The prober across real network namespaces, where packets can be dropped and counted.
//!
//! Needs root, `ip` and `nft`; without them it prints so and passes. No test thread ever changes its
//! namespace: the two ends are this binary, run again by `ip netns exec`, as [`role_peer`] and
//! [`role_prober`]. Namespaces carry the id of this process, and are removed once it is dead.
#![cfg(test)]

mod beside;
mod large;
mod mtu;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use wylis::name::{Instance, NodeName};
use wylis::probe::{Large, Outcome, Priority, Probe, ProbeKind, Report};
use wylis::prober::{Prober, Settings};

const PEER_V4: &str = "198.18.0.2:9050";
const PEER_V6: &str = "[fd00:18::2]:9050";
/// The role of a child: the target, the number of probes, the timeout in milliseconds, `sequential` or
/// `parallel`, and the kind of the probes: `blank`, or a large one.
const ROLE: &str = "WYLIS_TEST_ROLE";
/// Tolerance for a busy machine.
const SLACK: Duration = Duration::from_secs(3);

fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs a command, whose words are separated by single spaces.
fn run(words: &str) -> String {
    let mut command = words.split(' ');
    let output = Command::new(command.next().unwrap()).args(command).output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether namespaces and nft work here.
fn is_supported() -> bool {
    let works = |words: &[&str]| {
        let output = Command::new(words[0]).args(&words[1..]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !rustix::process::geteuid().is_root() {
        wylis_harness::skip("network namespaces need root");
        return false;
    }
    if !works(&["ip", "-Version"]) || !works(&["nft", "--version"]) {
        wylis_harness::skip("needs ip (iproute2) and nft (nftables)");
        return false;
    }
    let trial = format!("wy{}-trial{}", std::process::id(), unique());
    let supported = works(&["ip", "netns", "add", &trial]);
    if supported {
        run(&format!("ip netns del {trial}"));
    } else {
        wylis_harness::skip("network namespaces cannot be created here");
    }
    supported
}

fn unique() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Removes the namespaces of dead processes.
fn sweep() {
    for name in run("ip netns list").lines().filter_map(|line| line.split(' ').next()) {
        let Some(rest) = name.strip_prefix("wy") else { continue };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if digits.is_empty() || std::path::Path::new(&format!("/proc/{digits}")).exists() {
            continue;
        }
        remove(name);
    }
}

/// Ends the processes in a namespace and deletes it; another sweep may be faster.
fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output();
    for pid in String::from_utf8_lossy(&pids.unwrap().stdout).split_whitespace() {
        let _ = Command::new("kill").args(["-9", pid]).output();
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// Two namespaces joined by a veth pair: the prober's at .1, the peer's at .2.
struct Link {
    prober: String,
    peer: String,
    server: Option<Child>,
}

impl Link {
    fn new() -> Option<Self> {
        if !is_supported() {
            return None;
        }
        sweep();
        let stem = format!("wy{}-{}", std::process::id(), unique());
        let link = Self { prober: format!("{stem}a"), peer: format!("{stem}b"), server: None };
        run(&format!("ip netns add {}", link.prober));
        run(&format!("ip netns add {}", link.peer));
        let (a, b) = (&link.prober, &link.peer);
        run(&format!("ip link add eth0 netns {a} type veth peer name eth0 netns {b}"));
        for (name, host) in [(a, 1), (b, 2)] {
            run(&format!("ip -n {name} addr add 198.18.0.{host}/24 dev eth0"));
            run(&format!("ip -n {name} addr add fd00:18::{host}/64 dev eth0 nodad"));
            run(&format!("ip -n {name} link set lo up"));
            run(&format!("ip -n {name} link set eth0 up"));
        }
        Some(link)
    }

    /// Starts the peer and returns when it listens.
    fn serve(mut self) -> Self {
        self.server = Some(self.serve_in(&self.peer));
        self
    }

    fn serve_in(&self, namespace: &str) -> Child {
        let mut server = self.enter(namespace, "role_peer", "peer").spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        while !lines.next().unwrap().unwrap().contains("listening") {}
        server
    }

    fn enter(&self, namespace: &str, test: &str, role: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, role);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Loads nft rules into the peer's namespace.
    fn rules(&self, rules: &str) {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.peer, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{rules}");
    }

    /// The packets in the peer's counter of this name.
    fn packets(&self, counter: &str) -> u64 {
        let text = run(&format!("ip netns exec {} nft list counter inet t {counter}", self.peer));
        let after = text.split_once("packets ").unwrap().1;
        after.split(' ').next().unwrap().parse().unwrap()
    }

    /// Probes `target` `count` times, one after the other.
    fn probe(&self, target: &str, count: usize, timeout: Duration) -> Vec<Observed> {
        self.probe_as(target, count, timeout, "sequential")
    }

    fn probe_as(&self, target: &str, count: usize, timeout: Duration, how: &str) -> Vec<Observed> {
        self.probe_of_kind(target, count, timeout, &format!("{how} blank"))
    }

    fn probe_of_kind(
        &self,
        target: &str,
        count: usize,
        timeout: Duration,
        how: &str,
    ) -> Vec<Observed> {
        let role = format!("{target} {count} {} {how}", timeout.as_millis());
        let output = self.enter(&self.prober, "role_prober", &role).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        let observed: Vec<Observed> = text.lines().filter_map(Observed::read).collect();
        assert_eq!(observed.len(), count, "{text}");
        observed
    }

    fn probe_once(&self, target: &str, timeout: Duration) -> Observed {
        self.probe(target, 1, timeout).remove(0)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        remove(&self.prober);
        remove(&self.peer);
    }
}

/// The parts of a report that the parent needs, as one line of text.
#[derive(Debug)]
struct Observed {
    outcome: String,
    retransmits: Option<u32>,
    request_retransmits: u32,
    path_mtu: u32,
    rtt: Option<Duration>,
    connect: Duration,
    took: Duration,
}

impl Observed {
    fn write(report: &Report) -> String {
        let took = report.started.elapsed();
        let (outcome, connect) = match &report.outcome {
            Outcome::Success { timings, .. } => ("success".to_owned(), timings.connect),
            Outcome::Failure(reason) => (reason.to_string(), Duration::ZERO),
            Outcome::Local(error) => (format!("local-{error}"), Duration::ZERO),
        };
        let retransmits =
            report.kernel.map_or("-".to_owned(), |kernel| kernel.retransmits.to_string());
        let rtt = report.kernel.and_then(|kernel| kernel.rtt);
        let rtt = rtt.map_or("-".to_owned(), |rtt| rtt.as_micros().to_string());
        let (connect, took) = (connect.as_micros(), took.as_micros());
        let kernel = report.kernel.unwrap_or_default();
        let (late, mtu) = (kernel.request_retransmits(), kernel.path_mtu.unwrap_or_default());
        format!("observed {outcome} {retransmits} {rtt} {connect} {took} {late} {mtu}")
    }

    fn read(line: &str) -> Option<Self> {
        // The test runner may have started the line.
        let words: Vec<&str> = line.split_once("observed ")?.1.split(' ').collect();
        let micros = |text: &str| Duration::from_micros(text.parse().unwrap());
        Some(Self {
            outcome: words[0].to_owned(),
            retransmits: words[1].parse().ok(),
            rtt: words[2].parse().ok().map(Duration::from_micros),
            connect: micros(words[3]),
            took: micros(words[4]),
            request_retransmits: words[5].parse().unwrap(),
            path_mtu: words[6].parse().unwrap(),
        })
    }
}

/// Not a test: the peer, if the environment says so.
#[test]
fn role_peer() {
    if std::env::var(ROLE).as_deref() != Ok("peer") {
        return;
    }
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 9050)).unwrap();
    print("listening");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // One that is stuck must not delay the next.
        std::thread::spawn(move || {
            let (mut buffer, mut request) = ([0; 2048], String::new());
            while !request.ends_with("\r\n\r\n") {
                let Ok(count @ 1..) = stream.read(&mut buffer) else { return };
                request += str::from_utf8(&buffer[..count]).unwrap();
            }
            let _ = stream.write_all(large::answer_to(&request).as_bytes());
            // Until the prober closes.
            let _ = stream.read(&mut buffer);
        });
    }
}

/// Not a test: the prober, if the environment says so.
#[test]
fn role_prober() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let address: SocketAddr = words[0].parse().unwrap();
    let timeout = Duration::from_millis(words[2].parse().unwrap());
    let settings = Settings {
        node: NodeName::new("me").unwrap(),
        instance: Instance::new("instance-1").unwrap(),
        interval: Duration::from_secs(10),
        timeout,
        listen_port: 9050,
    };
    let (sender, reports) = channel();
    let prober = Prober::new(settings, move |report: Report| {
        let _ = sender.send(Observed::write(&report));
    });
    let kind = match words[4].split_once(':') {
        _ if words[4] == "blank" => ProbeKind::Blank,
        _ if words[4] == "answer" => ProbeKind::Large(Large::Answer),
        _ if words[4] == "both" => ProbeKind::Large(Large::Both),
        packet => {
            let packet = packet.map(|(_, packet)| packet.parse().unwrap());
            ProbeKind::Large(Large::Request { packet })
        }
    };
    let count = words[1].parse().unwrap();
    let next_report = || reports.recv_timeout(Duration::from_secs(60)).unwrap();
    for id in 0..count {
        let node = NodeName::new("n1").unwrap();
        let due = std::time::Instant::now();
        prober.submit(Probe {
            id,
            node,
            address,
            due,
            priority: Priority::Healthy,
            token: None,
            kind,
        });
        if words[3] == "sequential" {
            print(&next_report());
        }
    }
    if words[3] == "parallel" {
        (0..count).for_each(|_| print(&next_report()));
    }
}

#[test]
fn a_clean_path_has_no_retransmits_over_either_address_family() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    for target in [PEER_V4, PEER_V6] {
        for observed in link.probe(target, 5, Duration::from_secs(20)) {
            assert_eq!((observed.outcome.as_str(), observed.retransmits), ("success", Some(0)));
            assert!(observed.rtt.is_some(), "{observed:?}");
        }
    }
}

#[test]
fn a_lost_first_syn_is_a_retransmit_and_costs_a_second() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    link.rules(
        "table inet t {
           set seen { type ipv4_addr . inet_service; flags dynamic; size 1024; }
           counter dropped { }
           chain c { type filter hook input priority filter;
             tcp flags & (syn|ack) == syn ip saddr . tcp sport != @seen add @seen { ip saddr . tcp sport } counter name dropped drop
           }
         }\n",
    );
    for observed in link.probe(PEER_V4, 2, Duration::from_secs(20)) {
        assert_eq!(
            (observed.outcome.as_str(), observed.retransmits),
            ("success", Some(1)),
            "{observed:?}"
        );
        assert!(observed.connect >= Duration::from_millis(990), "{observed:?}");
        assert!(observed.connect < Duration::from_secs(1) + SLACK, "{observed:?}");
        assert!(
            observed.rtt.is_some_and(|rtt| rtt < SLACK),
            "not the kernel's timer: {observed:?}"
        );
    }
    assert_eq!(link.packets("dropped"), 2);
}

#[test]
fn a_lost_data_segment_is_a_retransmit() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    // The first data segment of each connection; a bare ACK has at most 80 bytes.
    link.rules(
        "table inet t {
           set seen { type ipv4_addr . inet_service; flags dynamic; size 1024; }
           counter dropped { }
           chain c { type filter hook input priority filter;
             tcp dport 9050 meta length > 100 ip saddr . tcp sport != @seen add @seen { ip saddr . tcp sport } counter name dropped drop
           }
         }\n",
    );
    let observed = link.probe_once(PEER_V4, Duration::from_secs(20));
    assert_eq!(observed.outcome, "success", "{observed:?}");
    assert!(observed.retransmits.unwrap() >= 1, "{observed:?}");
    assert!(observed.rtt.is_some_and(|rtt| rtt < SLACK), "that of the handshake: {observed:?}");
    assert_eq!(link.packets("dropped"), 1);
}

#[test]
fn without_any_syn_the_connect_times_out_at_the_deadline() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    link.rules(
        "table inet t {
           counter dropped { }
           chain c { type filter hook input priority filter;
             tcp flags & (syn|ack) == syn counter name dropped drop
           }
         }\n",
    );
    let timeout = Duration::from_millis(2500);
    let observed = link.probe_once(PEER_V4, timeout);
    assert_eq!(observed.outcome, "connect_timeout");
    let retransmits = observed.retransmits.unwrap();
    assert!(retransmits >= 1 && observed.rtt.is_none(), "{observed:?}");
    assert_eq!(link.packets("dropped"), u64::from(retransmits) + 1);
    assert!(observed.took >= timeout && observed.took < timeout + SLACK, "{observed:?}");
    print(&format!("overshoot of a 2.5 s deadline: {:?}", observed.took - timeout));
}

#[test]
fn icmp_errors_and_resets_are_distinguished() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    for (reject, target, outcome) in [
        ("tcp reset", PEER_V4, "refused"),
        ("tcp reset", PEER_V6, "refused"),
        ("icmp type port-unreachable", PEER_V4, "refused"),
        ("icmp type host-unreachable", PEER_V4, "unreachable"),
        ("icmp type net-unreachable", PEER_V4, "unreachable"),
        ("icmp type prot-unreachable", PEER_V4, "unreachable"),
        ("icmp type admin-prohibited", PEER_V4, "unreachable"),
        ("icmpv6 type no-route", PEER_V6, "unreachable"),
        ("icmpv6 type addr-unreachable", PEER_V6, "unreachable"),
        ("icmpv6 type admin-prohibited", PEER_V6, "unreachable"),
    ] {
        link.rules(&format!(
            "table inet t {{
               chain c {{ type filter hook input priority filter;
                 tcp dport 9050 reject with {reject}
               }}
             }}\n"
        ));
        let observed = link.probe_once(target, Duration::from_secs(20));
        assert_eq!(observed.outcome, outcome, "{reject}: {observed:?}");
        assert!(observed.took < Duration::from_secs(20), "{reject}: {observed:?}");
        link.rules("delete table inet t\n");
    }
}

#[test]
fn local_routes_are_unreachable_and_a_local_policy_is_denied() {
    let Some(link) = Link::new() else { return };
    for (kind, outcome) in
        [("unreachable", "unreachable"), ("blackhole", "unreachable"), ("prohibit", "local-denied")]
    {
        run(&format!("ip -n {} route add {kind} 198.18.9.0/24", link.prober));
        run(&format!("ip -n {} route add {kind} fd00:19::/64", link.prober));
        for target in ["198.18.9.1:9050", "[fd00:19::1]:9050"] {
            let observed = link.probe_once(target, Duration::from_secs(20));
            assert_eq!(observed.outcome, outcome, "{kind} {target}");
        }
        run(&format!("ip -n {} route del {kind} 198.18.9.0/24", link.prober));
        run(&format!("ip -n {} route del {kind} fd00:19::/64", link.prober));
    }
    // No route at all, and a host that does not exist (the kernel gives up after 3 s).
    let observed = link.probe_once("198.19.0.1:9050", Duration::from_secs(20));
    assert_eq!(observed.outcome, "unreachable");
    let observed = link.probe_once("198.18.0.77:9050", Duration::from_secs(20));
    assert_eq!(observed.outcome, "unreachable", "{observed:?}");
}

#[test]
fn one_local_port_serves_sequential_probes_and_no_free_port_is_a_local_error() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    let ports = "/proc/sys/net/ipv4/ip_local_port_range";
    let mut narrow = Command::new("ip");
    narrow.args(["netns", "exec", &link.prober, "sh", "-c"]);
    let done = narrow.arg(format!("echo 40000 40000 > {ports}")).status().unwrap();
    assert!(done.success());
    // No connection is left, not even in TIME_WAIT.
    for observed in link.probe(PEER_V4, 20, Duration::from_secs(20)) {
        assert_eq!(observed.outcome, "success");
    }
    link.rules("table inet t { chain c { type filter hook input priority filter; drop; }\n}\n");
    let observed = link.probe_as(PEER_V4, 2, Duration::from_secs(2), "parallel");
    let mut outcomes: Vec<&str> =
        observed.iter().map(|observed| observed.outcome.as_str()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["connect_timeout", "local-no_ports"]);
}

#[test]
fn a_probe_costs_six_packets() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    link.rules(
        "table inet t {
           counter inward { }
           counter outward { }
           chain i { type filter hook prerouting priority filter; tcp dport 9050 counter name inward
           }
           chain o { type filter hook postrouting priority filter; tcp sport 9050 counter name outward
           }
         }\n",
    );
    let count = 50_u32;
    let observed = link.probe(PEER_V4, 50, Duration::from_secs(20));
    assert!(observed.iter().all(|observed| observed.outcome == "success"), "{observed:?}");
    let (inward, outward) = (link.packets("inward"), link.packets("outward"));
    let each = (inward + outward) as f64 / f64::from(count);
    print(&format!("packets per probe: {each} ({inward} to the peer, {outward} from it)"));
    // A busy machine may exceed the ACK delay of 40 ms, which adds an ACK.
    assert!(each < 6.5, "{each}");
}
