//! The prober across real network namespaces, where packets can be dropped and counted.
//!
//! Needs root, `ip` and `nft`; says so and passes without. No test thread ever changes its
//! namespace: the two ends are this binary run again by `ip netns exec`, as [`role_peer`] and
//! [`role_prober`]. Everything here is named after this process and swept when it is dead.
#![cfg(test)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use wylis::name::{Instance, NodeName};
use wylis::probe::{Outcome, Priority, Probe, ProbeKind, Report};
use wylis::prober::{Prober, Settings};

const PEER_V4: &str = "198.18.0.2:9050";
const PEER_V6: &str = "[fd00:18::2]:9050";
/// The environment of a child: what to probe, how often, the timeout in milliseconds, and whether
/// `apart` (one after the other) or `together`.
const ROLE: &str = "WYLIS_TEST_ROLE";
/// How late a busy machine may be.
const SLACK: Duration = Duration::from_secs(3);

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs a command; its words are separated by single spaces.
fn run(words: &str) -> String {
    let mut command = words.split(' ');
    let output = Command::new(command.next().unwrap()).args(command).output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether namespaces and nft work here.
fn able() -> bool {
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
    let able = works(&["ip", "netns", "add", &trial]);
    if able {
        run(&format!("ip netns del {trial}"));
    } else {
        wylis_harness::skip("network namespaces cannot be made here");
    }
    able
}

fn unique() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Removes the namespaces of processes that died before they could.
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

/// Ends what runs in a namespace and deletes it; another sweeper may be faster.
fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output();
    for pid in String::from_utf8_lossy(&pids.unwrap().stdout).split_whitespace() {
        let _ = Command::new("kill").args(["-9", pid]).output();
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// Two namespaces joined by a cable: the prober's at .1, the peer's at .2.
struct Cable {
    prober: String,
    peer: String,
    server: Option<Child>,
}

impl Cable {
    fn new() -> Option<Self> {
        if !able() {
            return None;
        }
        sweep();
        let stem = format!("wy{}-{}", std::process::id(), unique());
        let cable = Self { prober: format!("{stem}a"), peer: format!("{stem}b"), server: None };
        run(&format!("ip netns add {}", cable.prober));
        run(&format!("ip netns add {}", cable.peer));
        let (a, b) = (&cable.prober, &cable.peer);
        run(&format!("ip link add eth0 netns {a} type veth peer name eth0 netns {b}"));
        for (name, host) in [(a, 1), (b, 2)] {
            run(&format!("ip -n {name} addr add 198.18.0.{host}/24 dev eth0"));
            run(&format!("ip -n {name} addr add fd00:18::{host}/64 dev eth0 nodad"));
            run(&format!("ip -n {name} link set lo up"));
            run(&format!("ip -n {name} link set eth0 up"));
        }
        Some(cable)
    }

    /// Starts the peer and returns when it listens.
    fn serve(mut self) -> Self {
        let mut server = self.enter(&self.peer, "role_peer", "peer").spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        while !lines.next().unwrap().unwrap().contains("listening") {}
        self.server = Some(server);
        self
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

    /// Packets that the peer's counter of this name saw.
    fn packets(&self, counter: &str) -> u64 {
        let text = run(&format!("ip netns exec {} nft list counter inet t {counter}", self.peer));
        let after = text.split_once("packets ").unwrap().1;
        after.split(' ').next().unwrap().parse().unwrap()
    }

    /// Probes `target` so many times, one after the other.
    fn probe(&self, target: &str, count: usize, timeout: Duration) -> Vec<Seen> {
        self.probe_as(target, count, timeout, "apart")
    }

    fn probe_as(&self, target: &str, count: usize, timeout: Duration, how: &str) -> Vec<Seen> {
        let role = format!("{target} {count} {} {how}", timeout.as_millis());
        let output = self.enter(&self.prober, "role_prober", &role).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        let seen: Vec<Seen> = text.lines().filter_map(Seen::read).collect();
        assert_eq!(seen.len(), count, "{text}");
        seen
    }

    fn probe_once(&self, target: &str, timeout: Duration) -> Seen {
        self.probe(target, 1, timeout).remove(0)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        remove(&self.prober);
        remove(&self.peer);
    }
}

/// What the parent needs of a report, as one line of text.
#[derive(Debug)]
struct Seen {
    outcome: String,
    retransmits: Option<u32>,
    has_rtt: bool,
    connect: Duration,
    took: Duration,
}

impl Seen {
    fn write(report: &Report) -> String {
        let took = report.started.elapsed();
        let (outcome, connect) = match &report.outcome {
            Outcome::Success { timings, .. } => ("success".to_owned(), timings.connect),
            Outcome::Failure(reason) => (reason.to_string(), Duration::ZERO),
            Outcome::Local(error) => (format!("local-{error}"), Duration::ZERO),
        };
        let retransmits =
            report.kernel.map_or("-".to_owned(), |kernel| kernel.retransmits.to_string());
        let has_rtt = report.kernel.is_some_and(|kernel| kernel.rtt.is_some());
        let (connect, took) = (connect.as_micros(), took.as_micros());
        format!("seen {outcome} {retransmits} {has_rtt} {connect} {took}")
    }

    fn read(line: &str) -> Option<Self> {
        // The test runner may have begun the line.
        let words: Vec<&str> = line.split_once("seen ")?.1.split(' ').collect();
        let micros = |text: &str| Duration::from_micros(text.parse().unwrap());
        Some(Self {
            outcome: words[0].to_owned(),
            retransmits: words[1].parse().ok(),
            has_rtt: words[2] == "true",
            connect: micros(words[3]),
            took: micros(words[4]),
        })
    }
}

/// Not a test: the peer, when the environment says so.
#[test]
fn role_peer() {
    if std::env::var(ROLE).as_deref() != Ok("peer") {
        return;
    }
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 9050)).unwrap();
    say("listening");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = [0; 2048];
        if stream.read(&mut buffer).unwrap_or(0) > 0 {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\n\r\n");
            // Until the prober closes.
            let _ = stream.read(&mut buffer);
        }
    }
}

/// Not a test: the prober, when the environment says what to probe.
#[test]
fn role_prober() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let address: SocketAddr = words[0].parse().unwrap();
    let timeout = Duration::from_millis(words[2].parse().unwrap());
    let settings = Settings {
        node: NodeName::new("me").unwrap(),
        instance: Instance::new("life-1").unwrap(),
        interval: Duration::from_secs(10),
        timeout,
        listen_port: 9050,
    };
    let (sender, reports) = channel();
    let prober = Prober::new(settings, move |report: Report| {
        let _ = sender.send(Seen::write(&report));
    });
    let count = words[1].parse().unwrap();
    let heard = || reports.recv_timeout(Duration::from_secs(60)).unwrap();
    for id in 0..count {
        let node = NodeName::new("n1").unwrap();
        let due = std::time::Instant::now();
        prober.submit(Probe {
            id,
            node,
            address,
            due,
            priority: Priority::Healthy,
            kind: ProbeKind::Blank,
        });
        if words[3] == "apart" {
            say(&heard());
        }
    }
    if words[3] == "together" {
        (0..count).for_each(|_| say(&heard()));
    }
}

#[test]
fn on_a_clean_path_nothing_is_sent_again_over_either_family() {
    let Some(cable) = Cable::new().map(Cable::serve) else { return };
    for target in [PEER_V4, PEER_V6] {
        for seen in cable.probe(target, 5, Duration::from_secs(20)) {
            assert_eq!((seen.outcome.as_str(), seen.retransmits), ("success", Some(0)));
            assert!(seen.has_rtt, "{seen:?}");
        }
    }
}

#[test]
fn a_lost_first_syn_costs_a_second_and_is_counted() {
    let Some(cable) = Cable::new().map(Cable::serve) else { return };
    cable.rules(
        "table inet t {
           set seen { type ipv4_addr . inet_service; flags dynamic; size 1024; }
           counter dropped { }
           chain c { type filter hook input priority filter;
             tcp flags & (syn|ack) == syn ip saddr . tcp sport != @seen add @seen { ip saddr . tcp sport } counter name dropped drop
           }
         }\n",
    );
    for seen in cable.probe(PEER_V4, 2, Duration::from_secs(20)) {
        assert_eq!((seen.outcome.as_str(), seen.retransmits), ("success", Some(1)), "{seen:?}");
        assert!(seen.connect >= Duration::from_millis(990), "{seen:?}");
        assert!(seen.connect < Duration::from_secs(1) + SLACK, "{seen:?}");
        assert!(!seen.has_rtt, "{seen:?}");
    }
    assert_eq!(cable.packets("dropped"), 2);
}

#[test]
fn lost_data_is_counted_too() {
    let Some(cable) = Cable::new().map(Cable::serve) else { return };
    // The first segment with data of each connection; a bare ACK has at most 80 octets.
    cable.rules(
        "table inet t {
           set seen { type ipv4_addr . inet_service; flags dynamic; size 1024; }
           counter dropped { }
           chain c { type filter hook input priority filter;
             tcp dport 9050 meta length > 100 ip saddr . tcp sport != @seen add @seen { ip saddr . tcp sport } counter name dropped drop
           }
         }\n",
    );
    let seen = cable.probe_once(PEER_V4, Duration::from_secs(20));
    assert_eq!(seen.outcome, "success", "{seen:?}");
    assert!(seen.retransmits.unwrap() >= 1 && !seen.has_rtt, "{seen:?}");
    assert_eq!(cable.packets("dropped"), 1);
}

#[test]
fn when_every_syn_is_lost_the_connect_times_out_in_time() {
    let Some(cable) = Cable::new().map(Cable::serve) else { return };
    cable.rules(
        "table inet t {
           counter dropped { }
           chain c { type filter hook input priority filter;
             tcp flags & (syn|ack) == syn counter name dropped drop
           }
         }\n",
    );
    let timeout = Duration::from_millis(2500);
    let seen = cable.probe_once(PEER_V4, timeout);
    assert_eq!(seen.outcome, "connect_timeout");
    let again = seen.retransmits.unwrap();
    assert!(again >= 1 && !seen.has_rtt, "{seen:?}");
    assert_eq!(cable.packets("dropped"), u64::from(again) + 1);
    assert!(seen.took >= timeout && seen.took < timeout + SLACK, "{seen:?}");
    say(&format!("overshoot of a 2.5 s deadline: {:?}", seen.took - timeout));
}

#[test]
fn what_routers_and_hosts_say_is_told_apart() {
    let Some(cable) = Cable::new().map(Cable::serve) else { return };
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
        cable.rules(&format!(
            "table inet t {{
               chain c {{ type filter hook input priority filter;
                 tcp dport 9050 reject with {reject}
               }}
             }}\n"
        ));
        let seen = cable.probe_once(target, Duration::from_secs(20));
        assert_eq!(seen.outcome, outcome, "{reject}: {seen:?}");
        assert!(seen.took < Duration::from_secs(20), "{reject}: {seen:?}");
        cable.rules("delete table inet t\n");
    }
}

#[test]
fn our_own_routes_say_unreachable_and_our_own_policy_denied() {
    let Some(cable) = Cable::new() else { return };
    for (kind, outcome) in
        [("unreachable", "unreachable"), ("blackhole", "unreachable"), ("prohibit", "local-denied")]
    {
        run(&format!("ip -n {} route add {kind} 198.18.9.0/24", cable.prober));
        run(&format!("ip -n {} route add {kind} fd00:19::/64", cable.prober));
        for target in ["198.18.9.1:9050", "[fd00:19::1]:9050"] {
            let seen = cable.probe_once(target, Duration::from_secs(20));
            assert_eq!(seen.outcome, outcome, "{kind} {target}");
        }
        run(&format!("ip -n {} route del {kind} 198.18.9.0/24", cable.prober));
        run(&format!("ip -n {} route del {kind} fd00:19::/64", cable.prober));
    }
    // No route at all, and a neighbour that does not exist (the kernel gives up after 3 s).
    let seen = cable.probe_once("198.19.0.1:9050", Duration::from_secs(20));
    assert_eq!(seen.outcome, "unreachable");
    let seen = cable.probe_once("198.18.0.77:9050", Duration::from_secs(20));
    assert_eq!(seen.outcome, "unreachable", "{seen:?}");
}

#[test]
fn one_local_port_serves_probe_after_probe_and_none_left_is_our_own_failure() {
    let Some(cable) = Cable::new().map(Cable::serve) else { return };
    let ports = "/proc/sys/net/ipv4/ip_local_port_range";
    let mut narrow = Command::new("ip");
    narrow.args(["netns", "exec", &cable.prober, "sh", "-c"]);
    let done = narrow.arg(format!("echo 40000 40000 > {ports}")).status().unwrap();
    assert!(done.success());
    // Each leaves nothing behind, not even TIME_WAIT.
    for seen in cable.probe(PEER_V4, 20, Duration::from_secs(20)) {
        assert_eq!(seen.outcome, "success");
    }
    cable.rules("table inet t { chain c { type filter hook input priority filter; drop; }\n}\n");
    let seen = cable.probe_as(PEER_V4, 2, Duration::from_secs(2), "together");
    let mut outcomes: Vec<&str> = seen.iter().map(|seen| seen.outcome.as_str()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["connect_timeout", "local-no_ports"]);
}

#[test]
fn a_probe_costs_six_packets() {
    let Some(cable) = Cable::new().map(Cable::serve) else { return };
    cable.rules(
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
    let seen = cable.probe(PEER_V4, 50, Duration::from_secs(20));
    assert!(seen.iter().all(|seen| seen.outcome == "success"), "{seen:?}");
    let (inward, outward) = (cable.packets("inward"), cable.packets("outward"));
    let each = (inward + outward) as f64 / f64::from(count);
    say(&format!("packets per probe: {each} ({inward} to the peer, {outward} from it)"));
    // An ACK is sent apart when a busy machine takes longer than the delay of 40 ms.
    assert!(each < 6.5, "{each}");
}
