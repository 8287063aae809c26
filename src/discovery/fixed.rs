//! Peers from a fixed list, for meshes without Kubernetes.
//!
//! Every refresh reads the file and resolves the host names again.

pub(super) mod list;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use log::info;

use super::error::DiscoveryError;
use super::{AddressRule, LogOnChange, PeerSource};
use crate::file;
use crate::host_port::HostPort;
use crate::name::NodeName;
use crate::peer::{Peer, PeerSet};
pub use list::{Entry, FixedListError, LineError, parse};

/// Time to resolve all host names of a list; the names left over keep their last addresses. One
/// look-up blocks for several seconds while the name server is away.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

/// Addresses of a host that are kept. One is probed; a name server may send hundreds.
const MAX_HOST_ADDRESSES: usize = 8;

/// Where the list comes from.
#[derive(Debug)]
pub enum FixedList {
    /// A setting, already parsed.
    Entries(Vec<Entry>),
    /// A file, read at each refresh.
    File(PathBuf),
}

/// Turns the list into peers.
#[derive(Debug)]
pub struct FixedSource {
    list: FixedList,
    own: NodeName,
    /// The last addresses of each host, for when the name server is away.
    resolved: BTreeMap<HostPort, Vec<SocketAddr>>,
    unresolved: LogOnChange,
    refused: LogOnChange,
    /// The last list had no entry of this node.
    own_missing: bool,
}

impl FixedSource {
    /// A source of this list. The entry of the node `own` is no peer.
    #[must_use]
    pub fn new(list: FixedList, own: NodeName) -> Self {
        let unresolved = LogOnChange::new("host names of the fixed list without an address");
        let refused = LogOnChange::new("host names of the fixed list with only unusable addresses");
        Self { list, own, resolved: BTreeMap::new(), unresolved, refused, own_missing: false }
    }

    fn entries(&self) -> Result<Vec<Entry>, FixedListError> {
        let path = match &self.list {
            FixedList::Entries(entries) => return Ok(entries.clone()),
            FixedList::File(path) => path,
        };
        let text = file::read_text(path, list::MAX_BYTES)
            .map_err(|source| FixedListError::Read { path: path.clone(), source })?;
        parse(&text)
    }

    fn log_own_missing(&mut self, missing: bool) {
        if missing && !self.own_missing {
            info!("discovery: the fixed list lacks this node, named {:?}", self.own.as_str());
        }
        self.own_missing = missing;
    }
}

impl PeerSource for FixedSource {
    fn list(&mut self, _: SystemTime) -> Result<Option<PeerSet>, DiscoveryError> {
        let mut entries = self.entries()?;
        let all = entries.len();
        entries.retain(|entry| entry.node != self.own);
        self.log_own_missing(entries.len() == all);
        let deadline = Instant::now() + RESOLVE_LIMIT;
        let last = std::mem::take(&mut self.resolved);
        let (mut peers, mut unresolved, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for Entry { node, target, host } in entries {
            let mut addresses = resolve(&target, last.get(&target), deadline);
            let all = addresses.len();
            addresses.retain(|address| AddressRule::Fixed.refusal(*address).is_none());
            let Some((&address, others)) = addresses.split_first() else {
                if all == 0 { &mut unresolved } else { &mut refused }.push(target);
                continue;
            };
            let other_addresses = others.iter().map(SocketAddr::ip).collect();
            let (instance, ready) = (None, None);
            peers.push(Peer { node, address, other_addresses, host, instance, ready });
            self.resolved.insert(target, addresses);
        }
        self.unresolved.update(unresolved.len(), || examples(&unresolved));
        self.refused.update(refused.len(), || examples(&refused));
        let unusable = unresolved.len() + refused.len();
        if peers.is_empty() && unusable > 0 {
            return Err(FixedListError::Unresolved(unusable).into());
        }
        let mut set: PeerSet = peers.into_iter().collect();
        set.pods.bad_address = refused.len() as u64;
        Ok(Some(set))
    }

    fn readers(&self, _: usize) -> usize {
        0
    }
}

/// The first of these hosts, quoted.
fn examples(targets: &[HostPort]) -> String {
    let hosts: Vec<_> = targets.iter().take(3).map(HostPort::host).collect();
    format!("{hosts:?}")
}

/// The addresses of a host, or its last ones where the resolver fails or the deadline has passed.
fn resolve(
    target: &HostPort,
    last: Option<&Vec<SocketAddr>>,
    deadline: Instant,
) -> Vec<SocketAddr> {
    if (target.is_address() || Instant::now() < deadline)
        && let Ok(found) = target.resolve()
    {
        return in_use_first(found, last.and_then(|last| last.first()));
    }
    last.cloned().unwrap_or_default()
}

/// Each address once. The one in use stays first while the host has it, because name servers
/// rotate the addresses of a name.
fn in_use_first(found: Vec<SocketAddr>, in_use: Option<&SocketAddr>) -> Vec<SocketAddr> {
    let mut unique = Vec::new();
    for address in found {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    if let Some(place) = unique.iter().position(|address| Some(address) == in_use) {
        unique.swap(0, place);
    }
    unique.truncate(MAX_HOST_ADDRESSES);
    unique
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    fn source(list: &str) -> FixedSource {
        let own = NodeName::new("me").unwrap();
        FixedSource::new(FixedList::Entries(parse(list).unwrap()), own)
    }

    fn listed(source: &mut FixedSource) -> PeerSet {
        source.list(SystemTime::now()).unwrap().unwrap()
    }

    #[test]
    fn a_peer_has_the_host_of_its_entry() {
        let set = listed(&mut source("a=127.0.0.9:9051/192.0.2.1,b=127.0.0.9:9052"));
        let hosts: Vec<_> = set.iter().map(|peer| peer.host).collect();
        assert_eq!(hosts, [Some("192.0.2.1".parse().unwrap()), None]);
    }

    #[test]
    fn the_own_entry_is_no_peer_and_names_are_resolved() {
        let set = listed(&mut source("me=10.0.0.1:9050,a=127.0.0.9:9051,b=localhost:9052"));
        let found: Vec<_> = set.iter().map(|peer| peer.node.as_str()).collect();
        assert_eq!((found, set.pods.peer), (vec!["a", "b"], 2));
        assert!(set.iter().all(|peer| peer.address.ip().is_loopback()));
        assert!(set.iter().all(|peer| peer.instance.is_none() && peer.ready.is_none()));
    }

    #[test]
    fn a_link_local_address_keeps_its_scope() {
        let set = listed(&mut source("a=[fe80::1%lo]:9050"));
        let peer = set.iter().next().unwrap();
        let SocketAddr::V6(address) = peer.address else { panic!("{peer:?}") };
        assert_eq!((address.ip().to_string(), address.port()), ("fe80::1".to_owned(), 9050));
        assert_ne!(address.scope_id(), 0);
        let numbered = listed(&mut source("a=[fe80::1%7]:9050"));
        let expected = SocketAddrV6::new(*address.ip(), 9050, 0, 7);
        assert_eq!(numbered.iter().next().unwrap().address, expected.into());
    }

    #[test]
    fn an_unresolved_name_costs_only_its_peer() {
        let mut both = source("a=no-such-host.invalid:1,b=127.0.0.1:2");
        assert_eq!(listed(&mut both).len(), 1);
        let mut source = source("a=no-such-host.invalid:1");
        let error = source.list(SystemTime::now()).unwrap_err();
        assert_eq!(error.reason().as_str(), "fixed_list");
        let target = "no-such-host.invalid:1".parse().unwrap();
        source.resolved.insert(target, vec!["127.0.0.1:1".parse().unwrap()]);
        for _ in 0..2 {
            assert_eq!(listed(&mut source).len(), 1, "the last address stays in use");
        }
    }

    #[test]
    fn a_name_of_no_single_host_is_counted_and_costs_only_its_peer() {
        // The resolver reads such texts as addresses, which `parse` does not know.
        let mut both = source("a=0:1,b=0xe0.1:1,c=127.0.0.1:2");
        let set = listed(&mut both);
        assert_eq!((set.len(), set.pods.peer, set.pods.bad_address), (1, 1, 2));
        let error = source("a=0:1").list(SystemTime::now()).unwrap_err();
        assert_eq!(error.reason().as_str(), "fixed_list");
    }

    #[test]
    fn no_name_is_looked_up_after_the_deadline() {
        let resolved = |target: &str| resolve(&target.parse().unwrap(), None, Instant::now()).len();
        assert_eq!((resolved("localhost:1"), resolved("127.0.0.1:1")), (0, 1));
    }

    #[test]
    fn rotating_addresses_move_no_peer() {
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 9050));
        let mut in_use = None;
        let mut first_of = |found: &[u8]| {
            let found = found.iter().map(|last| address(*last)).collect();
            in_use = in_use_first(found, in_use.as_ref()).first().copied();
            in_use.unwrap()
        };
        assert_eq!(first_of(&[1, 2, 3]), address(1));
        assert_eq!(first_of(&[2, 3, 1]), address(1));
        assert_eq!(first_of(&[2, 3]), address(2), "the host lost the address in use");
        let twice = [address(1), address(2), address(1)];
        assert_eq!(in_use_first(twice.to_vec(), None), twice[..2]);
        let many: Vec<_> = (1..200).map(address).collect();
        let kept = in_use_first(many, Some(&address(150)));
        assert_eq!(kept.first(), Some(&address(150)));
        let kept = u32::try_from(kept.len()).unwrap();
        assert!(f64::from(kept) <= wylis_harness::bounds::worst_case("MAX_HOST_ADDRESSES"));
    }

    #[test]
    fn a_file_that_is_none_or_too_long_is_refused_at_once() {
        let dir = wylis_harness::TempDir::new("fixed");
        let path = dir.path().join("peers");
        let failure = || {
            let list = FixedList::File(path.clone());
            let mut source = FixedSource::new(list, NodeName::new("me").unwrap());
            source.list(SystemTime::now()).unwrap_err().to_string()
        };
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(failure().contains("is not a regular file"), "{}", failure());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(failure().contains("is not a regular file"), "{}", failure());
        std::fs::remove_file(&path).unwrap();
        std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        assert!(failure().contains("is longer than 1048576 bytes"), "{}", failure());
    }
}
