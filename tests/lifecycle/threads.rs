//! An agent that gets no more threads: nothing aborts, and it goes on with those that it has.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wylis_harness::api::{ApiServer, NAMESPACE, PodTable, TestPod, write_service_account};
use wylis_harness::mesh::{Net, PORT, TOKEN};
use wylis_harness::pki::{Authority, Validity};
use wylis_harness::process::{Agent, Settings, end_with_this_thread};
use wylis_harness::{TempDir, skip, wait_until};

use crate::binary;

const PATIENCE: Duration = Duration::from_secs(60);
/// More threads than an agent starts before it is ready.
const ENOUGH: u32 = 24;

/// A cgroup that limits the number of threads; removed when dropped, after its processes.
pub(super) struct Group(PathBuf);

impl Group {
    /// A group without a limit; `None` where this user may create none.
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists());
        let group = root?.join(format!("wylis-threads-{}-{number}", std::process::id()));
        std::fs::create_dir(&group).ok()?;
        let group = Self(group);
        group.0.join("pids.max").exists().then_some(group)
    }

    pub(super) fn limit(&self, threads: impl ToString) {
        std::fs::write(self.0.join("pids.max"), threads.to_string()).unwrap();
    }

    pub(super) fn add(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may still be ending.
        wait_until(PATIENCE, "the cgroup is removed", || std::fs::remove_dir(&self.0).is_ok());
    }
}

pub(super) fn group() -> Option<Group> {
    let group = Group::new();
    if group.is_none() {
        skip("needs root and the pids controller of cgroups");
    }
    group
}

/// A way to find the peers.
struct Way {
    name: &'static str,
    agent: Agent,
    // After the agent.
    group: Group,
}

/// Every way to find the peers: an agent for each, which has the node `peer` as its only peer.
fn ways(dir: &Path, net: &Net, api: &ApiServer, peer: SocketAddr) -> Option<Vec<Way>> {
    let list = dir.join("peers");
    std::fs::write(&list, format!("peer={peer}\nlocal=localhost:1\n")).unwrap();
    let list = list.display().to_string();
    let kubernetes = |host: &str| {
        vec![
            ("KUBERNETES_SERVICE_HOST", host.to_owned()),
            ("KUBERNETES_SERVICE_PORT", api.address().port().to_string()),
            ("WYLIS_SERVICE_ACCOUNT_DIR", dir.display().to_string()),
        ]
    };
    let ways = [
        ("address", kubernetes("127.0.0.1")),
        ("name", kubernetes("localhost")),
        ("list", vec![("WYLIS_PEERS", format!("peer={peer}"))]),
        ("names", vec![("WYLIS_PEERS", format!("peer={peer},local=localhost:1"))]),
        ("file", vec![("WYLIS_PEERS_FILE", list)]),
    ];
    let start = |(number, (name, mut pairs)): (u8, (&'static str, Vec<_>))| {
        let address = SocketAddr::new(net.host(number), PORT);
        let pod = TestPod::new(&format!("wylis-{name}"), name, &address.ip().to_string());
        pairs.extend([
            ("WYLIS_NODE_NAME", name.to_owned()),
            ("WYLIS_POD_UID", pod.uid.clone()),
            ("WYLIS_LISTEN", address.to_string()),
            ("WYLIS_INTERVAL", "1s".to_owned()),
            ("WYLIS_REFRESH_INTERVAL", "1s".to_owned()),
            ("WYLIS_STATE_DIR", dir.join(name).display().to_string()),
        ]);
        std::fs::create_dir(dir.join(name)).unwrap();
        // Own pods of the same DaemonSet, so that those of the API server see each other too.
        if name == "address" || name == "name" {
            api.pods().put(pod);
        }
        let group = group()?;
        let agent = Agent::start(&Settings {
            binary: binary(),
            environment: pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            address,
            log: dir.join(format!("{name}.log")),
        });
        group.add(agent.pid());
        Some(Way { name, agent, group })
    };
    (10..).zip(ways).map(start).collect()
}

/// An agent that the others probe, whose threads are not limited.
fn probed(dir: &Path, address: SocketAddr) -> Agent {
    let pairs = [
        ("WYLIS_NODE_NAME", "peer".to_owned()),
        ("WYLIS_LISTEN", address.to_string()),
        ("WYLIS_PEERS", "none=127.0.0.1:1".to_owned()),
    ];
    Agent::start(&Settings {
        binary: binary(),
        environment: pairs.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        address,
        log: dir.join("peer.log"),
    })
}

fn successes(agent: &Agent) -> f64 {
    agent.metrics().sum("wylis_probes_total", &["target_node=\"peer\"", "result=\"success\""])
}

fn refreshes(agent: &Agent) -> f64 {
    agent.metrics().sum("wylis_discovery_duration_seconds_count", &[])
}

/// Every route, with the statuses that are right while there is no thread.
const ROUTES: [(&str, &[u16]); 21] = [
    ("/keepalive", &[204]),
    ("/metrics", &[200]),
    ("/healthz", &[200]),
    ("/readyz", &[200]),
    ("/api/v1/peers", &[200]),
    ("/api/v1/peers/peer", &[200]),
    ("/api/v1/row", &[200]),
    ("/api/v1/cluster", &[200, 503]),
    ("/api/v1/cluster/peer/none", &[200, 503]),
    ("/api/v1/row/peer", &[200, 503]),
    ("/api/v1/health", &[200, 503]),
    ("/api/v1/history", &[200]),
    ("/api/v1/history/day", &[200, 503]),
    ("/api/v1/history/17", &[404, 503]),
    ("/api/v1/history/peer/none", &[200, 503]),
    ("/api/v1/past/row/17", &[404]),
    ("/api/v1/past/faults", &[200]),
    ("/api/v1/past/faults/peer", &[200, 503]),
    ("/api/v1/past/peers/peer", &[200]),
    ("/", &[200]),
    ("/nothing", &[404]),
];

#[test]
fn without_a_further_thread_every_way_and_route_goes_on() {
    let (dir, net) = (TempDir::new("threads"), Net::new());
    let authority = Authority::new("threads");
    let identity = authority.issue(&["127.0.0.1", "localhost"], Validity::Now);
    let api = ApiServer::start("127.0.0.1:0".parse().unwrap(), &identity, &PodTable::new());
    api.set_tokens(&[TOKEN]);
    write_service_account(dir.path(), TOKEN, &authority.pem(), NAMESPACE);
    let peer = SocketAddr::new(net.host(1), PORT);
    api.pods().put(TestPod::new("wylis-peer", "peer", &peer.ip().to_string()));
    let _peer = probed(dir.path(), peer);
    let Some(mut ways) = ways(dir.path(), &net, &api, peer) else { return };
    for Way { name, agent, group } in &ways {
        wait_until(PATIENCE, name, || successes(agent) > 1.0);
        group.limit(1);
    }
    let before: Vec<(f64, f64)> =
        ways.iter().map(|way| (successes(&way.agent), refreshes(&way.agent))).collect();
    for Way { name, agent, .. } in &ways {
        for (path, statuses) in ROUTES {
            let status = agent.get(path).map(|(status, _)| status);
            assert!(
                status.is_some_and(|s| statuses.contains(&s)),
                "{name} {path}: {status:?}: {}",
                agent.log()
            );
        }
    }
    for (Way { name, agent, .. }, (probes, lists)) in ways.iter_mut().zip(before) {
        wait_until(PATIENCE, name, || {
            assert!(agent.is_alive(), "{name}: {}", agent.log());
            successes(agent) > probes + 1.0 && refreshes(agent) > lists + 1.0
        });
        let failures = agent.metrics().sum("wylis_discovery_failures_total", &[]);
        assert_eq!(failures, 0.0, "{name}: {}", agent.log());
    }
    for Way { name, agent, group } in &mut ways {
        group.limit("max");
        let matrix = || agent.get("/api/v1/cluster").is_some_and(|(status, _)| status == 200);
        wait_until(PATIENCE, name, matrix);
        assert!(agent.is_alive(), "{name}: {}", agent.log());
    }
}

/// Starts the agent inside the group, with its error output in a file.
fn start_inside(group: &Group, address: SocketAddr, log: &Path) -> Child {
    let mut command = Command::new("sh");
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$0\"", group.0.display());
    command.arg("-c").arg(script).arg(binary()).env_clear();
    command.env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(log).unwrap());
    for (name, value) in [
        ("WYLIS_NODE_NAME", "me".to_owned()),
        ("WYLIS_LISTEN", address.to_string()),
        ("WYLIS_PEERS", "none=127.0.0.1:1".to_owned()),
    ] {
        command.env(name, value);
    }
    end_with_this_thread(&mut command);
    command.spawn().unwrap()
}

#[test]
fn a_start_without_enough_threads_is_an_error_and_no_crash() {
    let (dir, net) = (TempDir::new("threads"), Net::new());
    let (mut errors, mut crashes) = (Vec::new(), 0);
    for threads in 1..ENOUGH {
        let Some(group) = group() else { return };
        group.limit(threads);
        let address = SocketAddr::new(net.host(u8::try_from(threads).unwrap()), PORT);
        let log = dir.path().join(threads.to_string());
        let mut child = start_inside(&group, address, &log);
        let mut status = None;
        let listed = || wylis_harness::http::get(address, "/readyz").is_ok_and(|r| r.status == 200);
        wait_until(PATIENCE, "the agent starts or ends", || {
            status = child.try_wait().unwrap();
            status.is_some() || listed()
        });
        let text = std::fs::read_to_string(&log).unwrap();
        let _ = (child.kill(), child.wait());
        let Some(status) = status else {
            println!("{threads} threads suffice; with fewer: {errors:#?} and {crashes} crashes");
            assert!(crashes < 3, "{crashes}");
            assert!(threads > 8, "the limit did not apply");
            return;
        };
        if status.signal().is_some() {
            // The kernel still counted the threads of the check.
            assert!(text.contains("failed to spawn thread"), "{threads}: {text}");
            crashes += 1;
            continue;
        }
        assert_eq!(status.code(), Some(1), "{threads}: {text}");
        let error = text.lines().last().unwrap_or_default().to_owned();
        assert!(error.contains("thread") || error.contains("signals"), "{threads}: {text}");
        errors.push(error);
    }
    panic!("{ENOUGH} threads do not suffice");
}

/// A name server that never answers, and the agent in a mount namespace where it is the only one.
#[test]
fn a_silent_name_server_piles_up_no_threads_and_delays_no_stop() {
    if group().is_none() {
        return;
    }
    let (dir, net) = (TempDir::new("threads"), Net::new());
    let _silent = std::net::UdpSocket::bind((net.host(1), 53)).unwrap();
    let config = dir.path().join("resolv.conf");
    let text = format!("nameserver {}\noptions timeout:1 attempts:1\n", net.host(1));
    std::fs::write(&config, text).unwrap();
    let script = dir.path().join("start");
    let mount = format!("mount --bind {} /etc/resolv.conf", config.display());
    let program = binary().display().to_string();
    let text = format!("#!/bin/sh\nexec unshare -m sh -c '{mount} && exec {program}'\n");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let authority = Authority::new("threads");
    write_service_account(dir.path(), TOKEN, &authority.pem(), NAMESPACE);
    let address = SocketAddr::new(net.host(2), PORT);
    let pairs = [
        ("WYLIS_NODE_NAME", "me".to_owned()),
        ("WYLIS_LISTEN", address.to_string()),
        ("WYLIS_DRAIN", "0s".to_owned()),
        ("WYLIS_SERVICE_ACCOUNT_DIR", dir.path().display().to_string()),
        ("KUBERNETES_SERVICE_HOST", "api.invalid.test".to_owned()),
        ("KUBERNETES_SERVICE_PORT", "6443".to_owned()),
    ];
    let mut agent = Agent::start(&Settings {
        binary: script,
        environment: pairs.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        address,
        log: dir.path().join("log"),
    });
    wait_until(PATIENCE, "the agent answers", || agent.get("/healthz").is_some());
    let (mut threads, mut failures) = (0, 0.0);
    wait_until(PATIENCE, "three look-ups fail", || {
        threads = agent.status("Threads").max(threads);
        let metrics = agent.metrics();
        failures = metrics.sum("wylis_discovery_failures_total", &["reason=\"network\""]);
        failures >= 3.0
    });
    // At rest there are 10; the server starts some more at first.
    assert!(threads <= 16, "{threads} threads");
    assert_eq!(agent.get("/healthz").map(|(status, _)| status), Some(200));
    agent.terminate();
    let status = agent.wait(Duration::from_secs(20));
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", agent.log());
}
