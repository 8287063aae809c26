//! The discovery thread: when it lists, and when it ends.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use wylis::discovery::fixed::{FixedList, FixedSource};
use wylis::discovery::{AddressRule, DiscoveryError, EarlyCause, PeerCache, PeerSource, Settings};
use wylis::name::NodeName;
use wylis::peer::PeerSet;
use wylis_harness::api::{Behaviour, Request, TestPod};
use wylis_harness::{TempDir, wait_until};

use crate::fixture::{Fixture, INTERVAL, PATIENCE, lock, run};

/// A mesh of one that counts its lists.
struct Counting(Arc<AtomicUsize>);

impl PeerSource for Counting {
    fn list(&mut self, _: SystemTime) -> Result<Option<PeerSet>, DiscoveryError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Some(PeerSet::default()))
    }
}

#[test]
fn a_flood_of_causes_neither_delays_nor_hurries_the_list() {
    let lists = Arc::new(AtomicUsize::new(0));
    let source = Box::new(Counting(Arc::clone(&lists)));
    let interval = Duration::from_secs(1);
    let running = run(Settings { source, cache: None, interval });
    let over = Arc::new(AtomicBool::new(false));
    let (early, seen) = (running.early.clone(), Arc::clone(&over));
    let flood = std::thread::spawn(move || {
        let mut number = 0_u64;
        while !seen.load(Ordering::SeqCst) {
            number += 1;
            let name = NodeName::new(&format!("n{number}")).unwrap();
            early.request(EarlyCause::Unknown(name, None));
        }
    });
    let start = std::time::Instant::now();
    wait_until(PATIENCE, "the regular lists", || lists.load(Ordering::SeqCst) >= 5);
    let took = start.elapsed();
    over.store(true, Ordering::SeqCst);
    flood.join().unwrap();
    // Four intervals, one of them early, the others shortened by jitter.
    assert!(took >= 2 * interval, "{took:?}");
    running.end();
}

#[test]
fn an_unknown_node_brings_an_early_refresh() {
    let mut fixture = Fixture::new("127.62.10.1");
    fixture.run_with(Duration::from_secs(3600), None);
    fixture.running().await_outcome(0, "ok");
    for (name, node, ip) in [("wylis-c", "node-c", "10.1.0.4"), ("wylis-d", "node-d", "10.1.0.5")] {
        fixture.server.pods().put(TestPod::new(name, node, ip));
        let cause = EarlyCause::Unknown(NodeName::new(node).unwrap(), None);
        for _ in 0..1000 {
            fixture.running().early.request(cause.clone());
        }
        wait_until(PATIENCE, "the new node is found", || {
            fixture.running().nodes().iter().any(|known| known == node)
        });
    }
    let log: Vec<_> = fixture.server.log().into_iter().filter(Request::wants_table).collect();
    assert_eq!((log.len(), fixture.server.whole_lists()), (3, 3));
    // 10 s from start to start, less where a busy machine delays the first request.
    assert!(log[2].at - log[1].at > Duration::from_secs(5), "at most one in 10 s");
}

#[test]
fn a_failing_peer_brings_an_early_refresh_unless_it_has_left() {
    let mut fixture = Fixture::new("127.62.12.1");
    fixture.run_with(Duration::from_secs(3600), None);
    fixture.running().await_outcome(0, "ok");
    let failing = |node: &str| EarlyCause::Failing(NodeName::new(node).unwrap());
    fixture.running().early.request(failing("node-gone"));
    // Far above the early window of two peers.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fixture.running().count(), 1);
    fixture.running().early.request(failing("node-a"));
    wait_until(PATIENCE, "an early refresh", || fixture.running().count() == 2);
}

#[test]
fn a_stop_ends_a_wait_at_once_and_a_request_at_its_deadline() {
    let mut fixture = Fixture::new("127.62.11.1");
    fixture.run_with(Duration::from_secs(3600), None);
    fixture.running().await_outcome(0, "ok");
    let took = fixture.running.take().unwrap().end();
    assert!(took < Duration::from_secs(2), "{took:?}");
    fixture.settings.deadline = Duration::from_secs(2);
    fixture.server.always(Behaviour::Silence(Duration::from_secs(30)));
    fixture.run();
    wait_until(PATIENCE, "a request is under way", || fixture.server.requests() >= 2);
    let took = fixture.running.take().unwrap().end();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_fixed_list_in_a_file_is_read_again() {
    let dir = TempDir::new("fixed");
    let path = dir.path().join("peers");
    std::fs::write(&path, "# the mesh\nme=127.0.0.1:9050\na=127.0.0.2:9050\n").unwrap();
    let own = NodeName::new("me").unwrap();
    let source = Box::new(FixedSource::new(FixedList::File(path.clone()), own));
    let running = run(Settings { source, cache: None, interval: INTERVAL });
    wait_until(PATIENCE, "the first list", || running.nodes() == ["a"]);
    std::fs::write(&path, "a=127.0.0.2:9050\nbroken line\n").unwrap();
    let seen = running.count();
    running.await_outcome(seen, "fixed_list");
    assert_eq!(running.nodes(), ["a"]);
    assert!(running.log().iter().any(|line| line.contains("line 2")));
    std::fs::write(&path, "a=127.0.0.2:9050\nb=[::1]:9050\n").unwrap();
    wait_until(PATIENCE, "the second list", || running.nodes() == ["a", "b"]);
    running.end();
}

#[test]
fn a_peers_file_that_never_ends_is_refused_at_once() {
    let dir = TempDir::new("endless");
    let path = dir.path().join("peers");
    let own = NodeName::new("me").unwrap();
    let replace: [&dyn Fn(); 3] = [
        &|| std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
        &|| assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
        &|| std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap(),
    ];
    for replace in replace {
        replace();
        let source = Box::new(FixedSource::new(FixedList::File(path.clone()), own.clone()));
        let running = run(Settings { source, cache: None, interval: INTERVAL });
        running.await_outcome(0, "fixed_list");
        running.end();
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_long_fixed_list_is_read_again_each_interval() {
    let dir = TempDir::new("long");
    let own = NodeName::new("me").unwrap();
    let list: String = (0..1000).map(|n| format!("n{n}=127.0.0.1:9050\n")).collect();
    let entries = wylis::discovery::fixed::parse(&list).unwrap();
    // The second run starts with the cached list.
    for _ in 0..2 {
        let list = FixedList::Entries(entries.clone());
        let source = Box::new(FixedSource::new(list, own.clone()));
        let cache = Some(PeerCache::new(dir.path(), own.clone(), "fixed", AddressRule::Fixed));
        let running = run(Settings { source, cache, interval: INTERVAL });
        wait_until(PATIENCE, "the third refresh", || running.count() >= 3);
        let regular = lock(&running.refreshes).iter().all(|r| r.next_within < 2 * INTERVAL);
        assert!(regular, "an interval that grows with the list");
        running.end();
    }
}
