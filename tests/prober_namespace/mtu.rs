//! The search for the largest packet, over paths that lose what is larger than a threshold. Each threshold has an
//! address of its own, so that all are searched at once over one link without a smaller MTU.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Instant;

use wylis::probe::Direction;
use wylis::prober::largest_packet;

use super::large::{FAR_V4, FAR_V6, Routed};
use super::{Link, ROLE, print, run};

/// Between 600 and 1,499 bytes. At 1,108 over IPv4 and 1,128 over IPv6, no answer has the size that is asked for: the
/// length of its content gets a fourth digit.
const THRESHOLDS: [u16; 20] = [
    600, 601, 647, 700, 775, 836, 900, 964, 1000, 1025, 1108, 1128, 1200, 1279, 1280, 1337, 1400,
    1420, 1498, 1499,
];

/// What a search is expected to find, or has found: bytes, and whether they are exact.
type Found = Option<(u16, bool)>;

/// Not a test: the searches, if the environment says so, all at once.
#[test]
fn role_search() {
    let Ok(role) = std::env::var(ROLE) else { return };
    std::thread::scope(|scope| {
        for search in role.split(' ') {
            scope.spawn(move || {
                let (address, direction) = search.split_once('/').unwrap();
                let direction = Direction::ALL.into_iter().find(|d| d.as_str() == direction);
                let begun = Instant::now();
                let found = largest_packet(address.parse().unwrap(), direction.unwrap());
                let found = found.map_or("none".to_owned(), |found| {
                    format!("{} {}", found.bytes, found.is_exact)
                });
                print(&format!("found {search} {} {found}", begun.elapsed().as_millis()));
            });
        }
    });
}

/// The peer's addresses, from 10 on.
fn address(number: usize, is_ipv4: bool) -> SocketAddr {
    let host = number + 10;
    let text =
        if is_ipv4 { format!("198.18.0.{host}:9050") } else { format!("[fd00:18::{host}]:9050") };
    text.parse().unwrap()
}

/// A link whose peer has so many addresses of each family.
fn link(addresses: usize) -> Option<Link> {
    let link = Link::new()?.serve();
    let mut ip = std::process::Command::new("ip")
        .args(["-n", &link.peer, "-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = ip.stdin.take().unwrap();
    for host in 10..addresses + 10 {
        writeln!(lines, "addr add 198.18.0.{host}/24 dev eth0").unwrap();
        writeln!(lines, "addr add fd00:18::{host}/64 dev eth0 nodad").unwrap();
    }
    drop(lines);
    assert!(ip.wait().unwrap().success());
    Some(link)
}

fn search(link: &Link, searches: &[(SocketAddr, Direction)]) -> BTreeMap<String, (u64, Found)> {
    let name = |(address, direction): &(SocketAddr, Direction)| format!("{address}/{direction}");
    let role: Vec<String> = searches.iter().map(name).collect();
    let mut command = link.enter(&link.prober, "mtu::role_search", &role.join(" "));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let read = |line: &str| {
        let mut words = line.split_once("found ")?.1.split(' ');
        let (name, took) = (words.next()?, words.next()?.parse().ok()?);
        let found = words.next()?.parse().ok().zip(words.next().map(|exact| exact == "true"));
        Some((name.to_owned(), (took, found)))
    };
    let found: BTreeMap<_, _> = text.lines().filter_map(read).collect();
    assert_eq!(found.len(), searches.len(), "{text}");
    found
}

/// Rules that drop what is larger than a threshold: for each address, the first is that of what comes to the peer,
/// the second of what it sends.
fn drops(thresholds: impl Iterator<Item = (SocketAddr, Direction, u16)>) -> String {
    let (mut input, mut output) = (String::new(), String::new());
    for (address, direction, threshold) in thresholds {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        let (rules, side) = match direction {
            Direction::Incoming => (&mut output, "saddr"),
            _ => (&mut input, "daddr"),
        };
        let ip = address.ip();
        *rules += &format!("{family} {side} {ip} meta length > {threshold} counter drop\n");
    }
    format!(
        "table inet t {{
           chain i {{ type filter hook input priority filter;\n{input}\n}}
           chain o {{ type filter hook output priority filter;\n{output}\n}}
         }}\n"
    )
}

fn directions() -> [Direction; 2] {
    [Direction::Outgoing, Direction::Incoming]
}

/// Searches the thresholds in each direction and family at once. What is not proven on a busy machine is searched
/// again.
fn finds_exactly(thresholds: &[u16]) {
    let Some(link) = link(thresholds.len() * 2) else { return };
    let mut wanted = BTreeMap::new();
    for (number, threshold) in thresholds.iter().enumerate() {
        for (second, direction) in directions().into_iter().enumerate() {
            for is_ipv4 in [true, false] {
                let address = address(number * 2 + second, is_ipv4);
                wanted.insert((address, direction.as_str()), *threshold);
            }
        }
    }
    let direction = |name: &str| Direction::ALL.into_iter().find(|d| d.as_str() == name).unwrap();
    link.rules(&drops(wanted.iter().map(|((a, d), threshold)| (*a, direction(d), *threshold))));
    let mut longest = 0;
    for round in 1.. {
        let searches: Vec<_> = wanted.keys().map(|(a, d)| (*a, direction(d))).collect();
        let found = search(&link, &searches);
        longest = longest.max(found.values().map(|(took, _)| *took).max().unwrap());
        wanted.retain(|(address, direction), threshold| {
            let (_, found) = found[&format!("{address}/{direction}")];
            assert!(
                found.is_none_or(|found| found == (*threshold, true)),
                "{address} {direction}: {found:?} in place of {threshold}"
            );
            found.is_none()
        });
        print(&format!("round {round}: {} not proven, longest {longest} ms", wanted.len()));
        if wanted.is_empty() {
            return;
        }
        assert!(round < 4, "not proven: {wanted:?}");
    }
}

#[test]
fn thresholds_are_found_exactly_in_each_direction_and_family() {
    finds_exactly(&THRESHOLDS);
}

/// Searches each direction and family, with the first threshold in the direction.
fn find(link: &Link, threshold: u16) -> Vec<(u64, Found)> {
    let families = [true, false];
    let searches: Vec<(SocketAddr, Direction)> = (0..2)
        .flat_map(|second| families.map(|is_ipv4| (address(second, is_ipv4), directions()[second])))
        .collect();
    link.rules(&drops(searches.iter().map(|(a, d)| (*a, *d, threshold))));
    let found = search(link, &searches);
    link.rules("delete table inet t\n");
    searches.iter().map(|(address, direction)| found[&format!("{address}/{direction}")]).collect()
}

/// As [`find`], without the times; what is not proven on a busy machine is searched again.
fn found(link: &Link, threshold: u16) -> Vec<Found> {
    let mut found: Vec<Found> = vec![None; 4];
    for _ in 0..4 {
        let again = find(link, threshold).into_iter();
        found = found.iter().zip(again).map(|(known, (_, new))| known.or(new)).collect();
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found
}

/// On links of their own, at once: a search mostly waits.
#[test]
fn what_cannot_be_sent_bounds_what_is_found() {
    std::thread::scope(|scope| {
        scope.spawn(a_path_that_carries_all_carries_at_least_what_can_be_sent);
        scope.spawn(a_clamp_hides_what_is_larger);
        scope.spawn(where_a_router_has_named_the_size_all_that_is_sent_passes);
        scope.spawn(syn_cookies_hide_the_sizes_between_those_that_they_know);
    });
}

fn a_path_that_carries_all_carries_at_least_what_can_be_sent() {
    let Some(link) = link(2) else { return };
    assert_eq!(found(&link, 1500), [Some((1500, false)); 4]);
}

fn a_clamp_hides_what_is_larger() {
    let Some(link) = link(2) else { return };
    link.rules(
        "table inet clamp {
           chain i { type filter hook input priority filter;
             tcp flags syn tcp option maxseg size set 900
           }
           chain o { type filter hook output priority filter;
             tcp flags syn tcp option maxseg size set 900
           }
         }\n",
    );
    let at_least = [Some((940, false)), Some((960, false))];
    assert_eq!(found(&link, 1337), [at_least, at_least].concat());
    assert_eq!(found(&link, 833), [Some((833, true)); 4]);
}

fn where_a_router_has_named_the_size_all_that_is_sent_passes() {
    let Some(routed) = Routed::new() else { return };
    routed.set_mtu(1300);
    let searches = [FAR_V4, FAR_V6].map(|target| (target.parse().unwrap(), Direction::Outgoing));
    // The first packets may wait for neighbours.
    let found = (0..4).map(|_| search(&routed.link, &searches));
    let found: Vec<_> =
        found.flat_map(BTreeMap::into_values).filter_map(|(_, found)| found).collect();
    assert!(found.len() > 4 && found.iter().all(|found| *found == (1300, false)), "{found:?}");
}

fn syn_cookies_hide_the_sizes_between_those_that_they_know() {
    let Some(link) = link(2) else { return };
    run(&format!("ip netns exec {} sysctl -qw net.ipv4.tcp_syncookies=2", link.peer));
    let [out_v4, out_v6, in_v4, in_v6] = found(&link, 1337).try_into().unwrap();
    print(&format!("behind SYN cookies: {in_v4:?} {in_v6:?}"));
    assert_eq!((out_v4, out_v6), (Some((1337, true)), Some((1337, true))), "they bound answers");
    for (incoming, most) in [(in_v4, 576), (in_v6, 1280)] {
        let (bytes, is_exact) = incoming.unwrap();
        assert!(!is_exact && (500..=most).contains(&bytes), "{incoming:?}");
    }
}

#[test]
fn a_path_that_loses_packets_of_any_size_gives_no_number() {
    std::thread::scope(|scope| {
        scope.spawn(|| loses_a_part("input"));
        scope.spawn(|| loses_a_part("output"));
    });
}

fn loses_a_part(hook: &str) {
    let Some(link) = link(2) else { return };
    link.rules(&format!(
        "table inet lossy {{
           chain c {{ type filter hook {hook} priority filter;
             meta l4proto tcp numgen random mod 100 < 30 drop
           }}
         }}\n"
    ));
    for _ in 0..2 {
        let found = find(&link, 1337);
        assert!(found.iter().all(|(_, found)| found.is_none()), "{hook}: {found:?}");
    }
}

#[test]
fn a_search_costs_a_few_hundred_packets_at_most() {
    let Some(link) = link(2) else { return };
    link.rules(
        "table inet cost {
           counter traffic { }
           chain i { type filter hook prerouting priority raw; meta l4proto tcp counter name traffic
           }
           chain o { type filter hook postrouting priority raw; meta l4proto tcp counter name traffic
           }
         }\n",
    );
    let found = find(&link, 1337);
    let text = run(&format!("ip netns exec {} nft list counter inet cost traffic", link.peer));
    let number = |word: &str| -> u64 {
        let after = text.split_once(word).unwrap().1.trim_start();
        after.split([' ', '\n']).next().unwrap().parse().unwrap()
    };
    let (packets, bytes) = (number("packets ") / 4, number("bytes ") / 4);
    let longest = found.iter().map(|(took, _)| *took).max().unwrap();
    print(&format!("a search: {packets} packets, {bytes} bytes, {longest} ms: {found:?}"));
    assert!(packets < 300 && bytes < 60_000, "{packets} packets, {bytes} bytes");
}
