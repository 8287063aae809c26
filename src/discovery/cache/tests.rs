//! What is written, what is read back, and what of a hostile directory is refused.

use std::fs::File;

use super::*;
use wylis_harness::TempDir;
use wylis_harness::bounds::worst_case;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn peers() -> PeerSet {
    let peer = |name: &str, address: &str| Peer {
        node: node(name),
        address: address.parse().unwrap(),
        other_addresses: vec!["fd00::7".parse().unwrap()],
        host: Some("192.0.2.7".parse().unwrap()),
        instance: Some(Instance::new("0f8fad5b-d9cb").unwrap()),
        ready: Some(true),
    };
    let all = [("a", "10.0.0.2:9050"), ("b", "[fd00::3]:9050"), ("c", "[fe80::3%7]:9050")];
    all.into_iter().map(|(name, address)| peer(name, address)).collect()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

#[test]
fn a_list_is_read_back_without_readiness() {
    let dir = TempDir::new("cache");
    let mut cache = PeerCache::new(dir.path(), node("me"), "ns/app=wylis", AddressRule::Fixed);
    assert_eq!(cache.read(now()), None);
    cache.write(&peers(), now());
    let mut again = PeerCache::new(dir.path(), node("me"), "ns/app=wylis", AddressRule::Fixed);
    let expected: PeerSet =
        peers().iter().cloned().map(|peer| Peer { ready: None, ..peer }).collect();
    assert_eq!(again.read(now() + Duration::from_secs(86_000)), Some(expected.clone()));
    assert_eq!(again.read(SystemTime::UNIX_EPOCH), Some(expected), "a board without a clock");
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[test]
fn a_list_of_an_older_release_has_no_hosts() {
    let (_dir, mut cache, path) = after_a_write();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"host\":\"192.0.2.7\",", "")).unwrap();
    let set = cache.read(now()).unwrap();
    assert!(set.len() == 3 && set.iter().all(|peer| peer.host.is_none()));
}

#[test]
fn a_list_of_another_agent_or_day_is_ignored() {
    let dir = TempDir::new("cache");
    PeerCache::new(dir.path(), node("me"), "ns/x", AddressRule::Fixed).write(&peers(), now());
    let read = |name: &str, scope: &str, wall| {
        PeerCache::new(dir.path(), node(name), scope, AddressRule::Fixed).read(wall).is_some()
    };
    assert!(read("me", "ns/x", now()));
    assert!(!read("other", "ns/x", now()));
    assert!(!read("me", "ns/y", now()));
    assert!(!read("me", "ns/x", now() + MAX_AGE + Duration::from_secs(1)));
    assert!(!read("a", "ns/x", now()), "the own node as a peer");
}

#[test]
fn a_damaged_file_is_ignored() {
    let dir = TempDir::new("cache");
    let mut cache = PeerCache::new(dir.path(), node("me"), "s", AddressRule::Fixed);
    cache.write(&peers(), now());
    let path = dir.path().join(FILE);
    let whole = std::fs::read_to_string(&path).unwrap();
    let half = whole.get(..whole.len() / 2).unwrap();
    for text in [
        "",
        "{}",
        "null",
        half,
        &whole.replace("\"format\":1", "\"format\":2"),
        &whole.replace("\"a\"", "\"a b\""),
        &whole.replace("10.0.0.2:9050", "10.0.0.2:0"),
        &whole.replace("10.0.0.2:9050", "10.0.0.2"),
        &whole.replace("10.0.0.2:9050", "224.0.0.1:9050"),
        &whole.replace("0f8fad5b-d9cb", "?"),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(cache.read(now()), None, "{text}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(cache.read(now()).is_some());
}

#[test]
fn an_unchanged_list_is_written_once_an_hour() {
    let dir = TempDir::new("cache");
    let path = dir.path().join(FILE);
    let mut cache = PeerCache::new(dir.path(), node("me"), "s", AddressRule::Fixed);
    let mut set = peers();
    let mut is_written = |set: &PeerSet, seconds: u64| {
        let _ = std::fs::remove_file(&path);
        cache.write(set, now() + Duration::from_secs(seconds));
        path.exists()
    };
    assert!(is_written(&set, 0));
    assert!(!is_written(&set, 30));
    let unready = set.iter().cloned().map(|peer| Peer { ready: Some(false), ..peer });
    assert!(!is_written(&unready.collect(), 60), "readiness is not stored");
    assert!(is_written(&set, 3600));
    let template = set.iter().next().unwrap().clone();
    set.insert(Peer { node: node("d"), ..template });
    assert!(is_written(&set, 3601));
}

#[test]
fn a_missing_directory_is_not_fatal() {
    let dir = TempDir::new("cache");
    let missing = dir.path().join("missing");
    let mut cache = PeerCache::new(&missing, node("me"), "s", AddressRule::Fixed);
    cache.write(&peers(), now());
    assert!(cache.failing && cache.written.is_none());
    std::fs::create_dir(&missing).unwrap();
    cache.write(&peers(), now());
    assert!(!cache.failing && cache.read(now()).is_some());
}

/// Runs `act` in a thread and returns what it returns, unless it blocks.
fn at_once<T: Send + 'static>(what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(act()));
    receiver.recv_timeout(Duration::from_secs(15)).unwrap_or_else(|_| panic!("{what} blocks"))
}

/// A state directory with a list in it, a cache of this directory, and the file.
fn after_a_write() -> (TempDir, PeerCache, PathBuf) {
    let dir = TempDir::new("cache");
    let mut cache = PeerCache::new(dir.path(), node("me"), "s", AddressRule::Fixed);
    cache.write(&peers(), now());
    let path = dir.path().join(FILE);
    (dir, cache, path)
}

fn make_fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_link_a_fifo_a_device_or_a_huge_file_is_not_read() {
    type Replace = fn(&Path, &Path);
    let cases: [(&str, Replace); 6] = [
        ("link", |path, other| std::os::unix::fs::symlink(other, path).unwrap()),
        ("endless device", |path, _| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
        ("fifo", |path, _| make_fifo(path)),
        ("directory", |path, _| std::fs::create_dir(path).unwrap()),
        ("socket", |path, _| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        ("huge", |path, _| File::create(path).unwrap().set_len(1 << 30).unwrap()),
    ];
    for (what, replace) in cases {
        let (dir, mut cache, path) = after_a_write();
        let other = dir.path().join("other");
        std::fs::rename(&path, &other).unwrap();
        replace(&path, &other);
        assert_eq!(at_once(what, move || cache.read(now())), None, "{what}");
    }
}

#[test]
fn nothing_is_written_through_what_lies_in_the_directory() {
    type Place = fn(&Path, &Path);
    let cases: [(&str, Place); 4] = [
        ("link", |path, victim| std::os::unix::fs::symlink(victim, path).unwrap()),
        ("link to nothing", |path, _| std::os::unix::fs::symlink("missing", path).unwrap()),
        ("hard link", |path, victim| std::fs::hard_link(victim, path).unwrap()),
        ("fifo", |path, _| make_fifo(path)),
    ];
    for (what, place) in cases {
        for name in [FILE, TEMPORARY] {
            let dir = TempDir::new("cache");
            let victim = dir.path().join("victim");
            std::fs::write(&victim, "precious").unwrap();
            place(&dir.path().join(name), &victim);
            let mut cache = PeerCache::new(dir.path(), node("me"), "s", AddressRule::Fixed);
            let cache = at_once(what, move || {
                cache.write(&peers(), now());
                cache
            });
            assert!(cache.written.is_some(), "{what} at {name}");
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious", "{what} at {name}");
            assert!(!dir.path().join("missing").exists());
            let written = std::fs::symlink_metadata(dir.path().join(FILE)).unwrap();
            assert!(written.is_file(), "{what} at {name}");
        }
    }
}

/// The `number`th of the peers with the longest names and addresses.
fn longest_peer(number: usize) -> Peer {
    let ip: IpAddr = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
    Peer {
        node: node(&format!("{number:n>253}")),
        address: SocketAddr::new(ip, 65_535),
        other_addresses: vec![ip; 2 * MAX_OTHERS],
        host: Some(ip),
        instance: Some(Instance::new(&"i".repeat(63)).unwrap()),
        ready: None,
    }
}

#[test]
fn the_longest_list_is_written_and_read_back() {
    let dir = TempDir::new("cache");
    let mut cache =
        PeerCache::new(dir.path(), node(&"m".repeat(253)), &"s".repeat(1000), AddressRule::Fixed);
    cache.write(&(0..MAX_PEERS).map(longest_peer).collect(), now());
    let length = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
    let worst = worst_case("MAX_FILE");
    assert!((worst / 2.0..=worst).contains(&(length as f64)), "{length}");
    let set = cache.read(now()).unwrap();
    assert_eq!(set.len(), MAX_PEERS);
    assert!(set.iter().all(|peer| peer.other_addresses.len() == MAX_OTHERS));
}

#[test]
fn a_list_that_could_not_be_read_back_is_not_written() {
    let dir = TempDir::new("cache");
    let mut cache =
        PeerCache::new(dir.path(), node("me"), &"s".repeat(4 << 20), AddressRule::Fixed);
    cache.write(&peers(), now());
    assert!(cache.failing && std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

#[test]
fn more_elements_than_the_bound_are_refused_as_they_come() {
    let (_dir, mut cache, path) = after_a_write();
    let whole = std::fs::read_to_string(&path).unwrap();
    let peer = |node: usize, others: usize| {
        let others = vec!["\"::1\""; others].join(",");
        format!("{{\"node\":\"{node}\",\"address\":\"10.0.0.2:1\",\"others\":[{others}]}}")
    };
    let (head, _) = whole.split_once("\"peers\":[").unwrap();
    for (count, others, fits) in [
        (MAX_PEERS, 0, true),
        (MAX_PEERS + 1, 0, false),
        (1, MAX_OTHERS, true),
        (1, MAX_OTHERS + 1, false),
        (1, 500_000, false),
    ] {
        let peers: Vec<String> = (0..count).map(|node| peer(node, others)).collect();
        std::fs::write(&path, format!("{head}\"peers\":[{}]}}", peers.join(","))).unwrap();
        assert_eq!(cache.read(now()).is_some(), fits, "{count} peers, {others} others");
    }
}

#[test]
fn a_hostile_file_aims_no_probe_at_this_host_or_another_port() {
    let (dir, _, path) = after_a_write();
    let whole = std::fs::read_to_string(&path).unwrap().replace("[fe80::3%7]", "[fd00::4]");
    let reads = |rule: &AddressRule, address: &str| {
        std::fs::write(&path, whole.replace("10.0.0.2:9050", address)).unwrap();
        PeerCache::new(dir.path(), node("me"), "s", rule.clone()).read(now()).is_some()
    };
    let pods = AddressRule::pods(None, ("10.96.0.1", 9050), 9050);
    assert!(reads(&pods, "10.0.0.2:9050"));
    for address in
        ["127.0.0.1:9050", "169.254.169.254:9050", "10.96.0.1:9050", "10.0.0.2:10250", "[::1]:9050"]
    {
        assert!(!reads(&pods, address), "{address}");
    }
    std::fs::write(&path, whole.replace("192.0.2.7", "127.0.0.1")).unwrap();
    let set = PeerCache::new(dir.path(), node("me"), "s", pods).read(now()).unwrap();
    assert!(set.len() == 3 && set.iter().all(|peer| peer.host.is_none()));
    assert!(reads(&AddressRule::Fixed, "127.0.0.1:1") && !reads(&AddressRule::Fixed, "0.0.0.0:1"));
}
