//! The worker pool: queues, growth, shrinking, stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use wylis::probe::{FailureReason, LocalError, Outcome, Priority};
use wylis::prober::{HEALTHY_RESERVE, MAX_WORKERS, PoolLimits};

use crate::child;
use crate::peer::{GOOD, PATIENCE, Peer, blank, listener, prober, read_head, until};

/// Longer than any test here.
const FOREVER: Duration = Duration::from_secs(300);

fn succeeded(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Success { .. })
}

/// Threads of this process whose name begins with `probe-`.
fn probe_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("probe-")).count()
}

#[test]
fn stalled_peers_delay_no_healthy_one_and_threads_stay_bounded() {
    if !child::enter("pool::stalled_peers_delay_no_healthy_one_and_threads_stay_bounded") {
        return;
    }
    let healthy = Peer::answering("127.66.1.1", GOOD);
    let stalled = listener("127.66.1.2", 4096);
    let (prober, reports) = prober(FOREVER, PoolLimits::default());
    for id in 0..500 {
        prober.submit(blank(id, stalled.local_addr().unwrap(), Priority::Suspect));
    }
    until("all but the reserve busy", || probe_threads() == MAX_WORKERS - HEALTHY_RESERVE);
    for id in 1000..1300 {
        prober.submit(blank(id, healthy.address, Priority::Healthy));
        assert!(probe_threads() <= MAX_WORKERS);
    }
    let mut delays: Vec<Duration> = Vec::new();
    for _ in 1000..1300 {
        let report = reports.recv_timeout(PATIENCE).unwrap();
        assert!(report.id >= 1000 && succeeded(&report.outcome), "{report:?}");
        delays.push(report.started - report.due);
    }
    delays.sort();
    // 300 at once through four workers form a queue, but do not wait for a timeout.
    assert!(delays[299] < Duration::from_secs(10), "{:?}", delays[299]);
    // Healthy probes may use the reserve, but no more than MAX_WORKERS.
    for id in 2000..2100 {
        prober.submit(blank(id, stalled.local_addr().unwrap(), Priority::Healthy));
        assert!(probe_threads() <= MAX_WORKERS);
    }
    until("every worker busy", || probe_threads() == MAX_WORKERS);
    assert_eq!(prober.workers(), MAX_WORKERS);
    assert_eq!(prober.stop(Instant::now()), MAX_WORKERS);
}

#[test]
fn healthy_probes_may_use_every_worker() {
    let stalled = listener("127.66.2.1", 64);
    let limits = PoolLimits { workers: 6, reserve: 4, ..PoolLimits::default() };
    let (prober, _reports) = prober(FOREVER, limits);
    for id in 0..10 {
        prober.submit(blank(id, stalled.local_addr().unwrap(), Priority::Suspect));
    }
    // Suspect probes may use two workers.
    let began = Instant::now();
    until("two workers", || prober.workers() == 2);
    while began.elapsed() < Duration::from_millis(200) {
        assert_eq!(prober.workers(), 2);
    }
    for id in 10..30 {
        prober.submit(blank(id, stalled.local_addr().unwrap(), Priority::Healthy));
    }
    until("six workers", || prober.workers() == 6);
}

#[test]
fn waiting_suspect_probes_start_when_others_end() {
    let stalled = listener("127.66.3.1", 64);
    let limits = PoolLimits { workers: 3, reserve: 1, ..PoolLimits::default() };
    let (prober, reports) = prober(Duration::from_millis(50), limits);
    for id in 0..8 {
        prober.submit(blank(id, stalled.local_addr().unwrap(), Priority::Suspect));
    }
    let mut ids = Vec::new();
    for _ in 0..8 {
        let report = reports.recv_timeout(PATIENCE).unwrap();
        assert_eq!(report.outcome, Outcome::Failure(FailureReason::ResponseTimeout));
        ids.push(report.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..8).collect::<Vec<_>>());
}

#[test]
fn idle_workers_exit_except_for_the_last() {
    if !child::enter("pool::idle_workers_exit_except_for_the_last") {
        return;
    }
    let stalled = listener("127.66.4.1", 256);
    let idle = Duration::from_millis(100);
    let (prober, reports) =
        prober(Duration::from_millis(500), PoolLimits { idle, ..PoolLimits::default() });
    for id in 0..60 {
        prober.submit(blank(id, stalled.local_addr().unwrap(), Priority::Healthy));
    }
    assert_eq!(prober.workers(), 60);
    until("60 threads", || probe_threads() == 60);
    for _ in 0..60 {
        reports.recv_timeout(PATIENCE).unwrap();
    }
    until("one worker", || prober.workers() == 1);
    until("one thread", || probe_threads() == 1);
    // The last one neither exits nor wakes, and still works.
    std::thread::sleep(3 * idle);
    assert_eq!(prober.workers(), 1);
    let healthy = Peer::answering("127.66.4.2", GOOD);
    prober.submit(blank(99, healthy.address, Priority::Healthy));
    assert!(succeeded(&reports.recv_timeout(PATIENCE).unwrap().outcome));
    assert_eq!(prober.workers(), 1);
}

#[test]
fn a_steady_load_uses_few_workers() {
    let healthy = Peer::answering("127.66.5.1", GOOD);
    let (prober, reports) = prober(FOREVER, PoolLimits::default());
    for id in 0..200 {
        prober.submit(blank(id, healthy.address, Priority::Healthy));
        assert!(succeeded(&reports.recv_timeout(PATIENCE).unwrap().outcome));
    }
    // One more whenever a probe comes before the last worker is idle again: on a busy machine a few,
    // but not one for each probe.
    assert!(prober.workers() <= 16, "{}", prober.workers());
}

#[test]
fn stopping_joins_idle_workers_and_counts_busy_ones() {
    let healthy = Peer::answering("127.66.6.1", GOOD);
    let stalled = listener("127.66.6.2", 64);
    let limits = PoolLimits { workers: 5, reserve: 0, ..PoolLimits::default() };
    let (prober, reports) = prober(Duration::from_secs(3), limits);
    for id in 0..5 {
        prober.submit(blank(id, healthy.address, Priority::Healthy));
    }
    for _ in 0..5 {
        reports.recv_timeout(PATIENCE).unwrap();
    }
    for id in 10..12 {
        prober.submit(blank(id, stalled.local_addr().unwrap(), Priority::Suspect));
    }
    let busy = prober.stop(Instant::now() + Duration::from_millis(500));
    assert!(busy <= 2, "{busy}");
    prober.submit(blank(20, healthy.address, Priority::Healthy));
    // A second stop waits for the workers that were busy.
    assert_eq!(prober.stop(Instant::now() + PATIENCE), 0);
    assert_eq!(prober.workers(), 0);
    let late: Vec<_> = reports.try_iter().map(|report| report.id).collect();
    assert!(late.iter().all(|id| [10, 11].contains(id)), "{late:?}");
    assert_eq!(late.len(), busy, "probes in progress are reported, the others dropped");
}

#[test]
fn cancelled_probes_are_never_made() {
    let stalled = listener("127.66.7.1", 64);
    let limits = PoolLimits { workers: 1, reserve: 0, ..PoolLimits::default() };
    let (prober, reports) = prober(Duration::from_millis(300), limits);
    for id in 0..10 {
        prober.submit(blank(id, stalled.local_addr().unwrap(), Priority::Healthy));
    }
    prober.cancel_waiting();
    prober.submit(blank(10, stalled.local_addr().unwrap(), Priority::Suspect));
    until("the last one", || reports.recv_timeout(PATIENCE).unwrap().id == 10);
    assert_eq!(reports.try_iter().count(), 0);
}

#[test]
fn without_any_thread_a_probe_is_reported_as_not_started() {
    let peer = Peer::answering("127.66.8.1", GOOD);
    // Larger than any address space.
    let (prober, reports) = prober(FOREVER, PoolLimits { stack: 1 << 48, ..PoolLimits::default() });
    for (id, priority) in [(1, Priority::Healthy), (2, Priority::Suspect)] {
        let unstarted = prober.submit(blank(id, peer.address, priority));
        let [report] = unstarted.as_slice() else { panic!("{unstarted:?}") };
        assert_eq!(report.outcome, Outcome::Local(LocalError::NotStarted));
        assert_eq!(report.id, id);
    }
    assert!(reports.try_recv().is_err(), "reported once");
    assert_eq!(prober.workers(), 0);
}

#[test]
fn a_probe_waits_for_the_only_worker_if_no_other_can_start() {
    if !child::enter("pool::a_probe_waits_for_the_only_worker_if_no_other_can_start") {
        return;
    }
    use rustix::process::{Resource, Rlimit, setrlimit};
    let healthy = Peer::answering("127.66.11.1", GOOD);
    let stalled = listener("127.66.11.2", 16);
    let limits = PoolLimits { stack: 256 << 20, ..PoolLimits::default() };
    let (prober, reports) = prober(Duration::from_secs(1), limits);
    prober.submit(blank(1, healthy.address, Priority::Healthy));
    assert!(succeeded(&reports.recv_timeout(PATIENCE).unwrap().outcome));
    // Address space for everything except a second stack.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    let bound = Some((size + (128 << 10)) << 10);
    setrlimit(Resource::As, Rlimit { current: bound, maximum: None }).unwrap();
    prober.submit(blank(2, stalled.local_addr().unwrap(), Priority::Healthy));
    prober.submit(blank(3, healthy.address, Priority::Suspect));
    assert_eq!(prober.workers(), 1);
    let second = reports.recv_timeout(PATIENCE).unwrap();
    let failed = Outcome::Failure(FailureReason::ResponseTimeout);
    assert_eq!((second.id, second.outcome), (2, failed));
    let third = reports.recv_timeout(PATIENCE).unwrap();
    assert!(third.id == 3 && succeeded(&third.outcome), "{third:?}");
    assert!(third.started - third.due >= Duration::from_millis(500), "the report shows the delay");
    // Once threads can be started again, the waiting probes get workers without a further submit.
    for id in 10..15 {
        prober.submit(blank(id, stalled.local_addr().unwrap(), Priority::Healthy));
    }
    assert_eq!(prober.workers(), 1);
    setrlimit(Resource::As, Rlimit { current: None, maximum: None }).unwrap();
    until("more workers", || prober.workers() > 1);
}

#[test]
fn a_probe_wakes_only_one_worker() {
    if !child::enter("pool::a_probe_wakes_only_one_worker") {
        return;
    }
    let stalled = listener("127.66.12.1", 256);
    let healthy = Peer::answering("127.66.12.2", GOOD);
    let (prober, reports) = prober(Duration::from_secs(1), PoolLimits::default());
    for id in 0..40 {
        prober.submit(blank(id, stalled.local_addr().unwrap(), Priority::Healthy));
    }
    for _ in 0..40 {
        reports.recv_timeout(PATIENCE).unwrap();
    }
    // Voluntary context switches of each worker.
    let switches = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let status = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.unwrap().path().join("status")).ok()
        };
        let statuses: Vec<String> = tasks.filter_map(status).collect();
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().to_owned()
        };
        let workers = statuses.iter().filter(|text| field(text, "Name").starts_with("probe-"));
        workers
            .map(|text| (field(text, "Name"), field(text, "voluntary_ctxt_switches")))
            .collect::<BTreeMap<_, _>>()
    };
    until("all asleep", || {
        let before = switches();
        std::thread::sleep(Duration::from_millis(100));
        before == switches()
    });
    let before = switches();
    assert_eq!(before.len(), 40);
    for id in 100..300 {
        prober.submit(blank(id, healthy.address, Priority::Healthy));
        assert!(succeeded(&reports.recv_timeout(PATIENCE).unwrap().outcome));
    }
    let undisturbed = switches().into_iter().filter(|(name, count)| before[name] == *count).count();
    assert!(undisturbed >= 30, "{undisturbed} of 40 stayed asleep");
}

/// Peers for the random load, with any outcome.
fn mixed_peers() -> [SocketAddr; 4] {
    let healthy = Peer::answering("127.66.9.1", GOOD);
    let closing = Peer::start("127.66.9.2", |mut stream| {
        read_head(&mut stream);
    });
    let refusing = listener("127.66.9.3", 1).local_addr().unwrap();
    let stalled = Peer::start("127.66.9.4", |mut stream| {
        read_head(&mut stream);
        crate::peer::wait_for_close(&mut stream);
    });
    [healthy.address, closing.address, refusing, stalled.address]
}

#[test]
fn under_any_load_each_probe_is_reported_exactly_once() {
    let peers = mixed_peers();
    let load = proptest::collection::vec((0..4_usize, any::<bool>(), any::<bool>()), 0..150);
    let bounds = (1..9_usize, 0..9_usize, 0..20_u64);
    let config = ProptestConfig {
        cases: 12,
        max_shrink_iters: 4,
        failure_persistence: None,
        ..Default::default()
    };
    proptest!(config, |(load in load, (workers, reserve, idle) in bounds)| {
        let idle = Duration::from_millis(idle);
        let limits = PoolLimits { workers, reserve, idle, ..PoolLimits::default() };
        let (prober, reports) = prober(Duration::from_millis(20), limits);
        for (id, (peer, healthy, pause)) in (0..).zip(&load) {
            let priority = if *healthy { Priority::Healthy } else { Priority::Suspect };
            prober.submit(blank(id, peers[*peer], priority));
            prop_assert!(prober.workers() <= workers);
            if *pause {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let mut seen = BTreeMap::new();
        for _ in &load {
            *seen.entry(reports.recv_timeout(PATIENCE).unwrap().id).or_insert(0) += 1;
        }
        prop_assert_eq!(seen.len(), load.len());
        until("one worker at most", || prober.workers() <= 1);
        prop_assert_eq!(prober.stop(Instant::now() + PATIENCE), 0);
        prop_assert_eq!(reports.try_iter().count(), 0);
    });
}

#[test]
fn suspect_probes_never_use_the_reserve() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(Mutex::new(0));
    let (inside, highest) = (Arc::clone(&running), Arc::clone(&most));
    let slow = Peer::start("127.66.10.1", move |mut stream| {
        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
        let mut highest = highest.lock().unwrap();
        *highest = now.max(*highest);
        drop(highest);
        read_head(&mut stream);
        std::thread::sleep(Duration::from_millis(5));
        inside.fetch_sub(1, Ordering::SeqCst);
        // Closes only after counting down, so that it never counts two probes of one worker.
    });
    let healthy = Peer::answering("127.66.10.2", GOOD);
    let limits = PoolLimits { workers: 6, reserve: 3, ..PoolLimits::default() };
    let (prober, reports) = prober(FOREVER, limits);
    for id in 0..200 {
        prober.submit(blank(2 * id, slow.address, Priority::Suspect));
        prober.submit(blank(2 * id + 1, healthy.address, Priority::Healthy));
    }
    for _ in 0..400 {
        reports.recv_timeout(PATIENCE).unwrap();
    }
    assert!((1..=3).contains(&*most.lock().unwrap()), "{}", most.lock().unwrap());
}
