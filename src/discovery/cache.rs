//! The last good peer list in a file, for an agent that restarts while the API server is away.
//!
//! Readiness is not stored, since it would be out of date. No error here ends the agent.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use log::{info, warn};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::unix_seconds;
use crate::name::{Instance, NodeName};
use crate::peer::{MAX_PEERS, Peer, PeerSet};

/// The file's name in the state directory.
const FILE: &str = "peers.json";
/// The format of the file; one with another number is ignored.
const FORMAT: u32 = 1;
/// Oldest list that is used: later its addresses may belong to other pods.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// An unchanged list is written again after this time, so that its date stays true. Not more often,
/// since flash wears out.
const REWRITE_AFTER: Duration = Duration::from_secs(3600);
/// Longest file: [`MAX_PEERS`] peers with the longest names take about 3 MB.
const MAX_FILE: u64 = 4 << 20;

/// The file, and what it holds.
#[derive(Debug)]
pub struct PeerCache {
    path: PathBuf,
    node: NodeName,
    scope: String,
    /// Hash of the peers in the file, and when they were written.
    written: Option<(u64, SystemTime)>,
    failing: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredList {
    format: u32,
    node: String,
    scope: String,
    /// Seconds since 1970.
    saved: i64,
    peers: Vec<StoredPeer>,
}

#[derive(Serialize, Deserialize)]
struct StoredPeer {
    node: String,
    address: SocketAddr,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
}

/// Why a cached list is not used.
#[derive(Debug, Error)]
enum CacheError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("damaged: {0}")]
    Json(#[from] serde_json::Error),
    #[error("damaged: invalid {0}")]
    Invalid(&'static str),
    #[error("damaged: more than {MAX_PEERS} peers")]
    TooMany,
    #[error("format {0}, expected {FORMAT}")]
    OtherFormat(u32),
    #[error("written by another node")]
    OtherNode,
    #[error("written for another namespace, selector or list")]
    OtherScope,
    #[error("{} hours old", .0.as_secs() / 3600)]
    TooOld(Duration),
}

impl PeerCache {
    /// The cache of a node in the directory `dir`. `scope` names where the list comes from, such as
    /// namespace and selector: a list of another scope is not used.
    #[must_use]
    pub fn new(dir: &Path, node: NodeName, scope: &str) -> Self {
        let (path, scope) = (dir.join(FILE), scope.to_owned());
        Self { path, node, scope, written: None, failing: false }
    }

    /// The cached peers, if they can be used. Logs why they cannot.
    #[must_use]
    pub fn read(&mut self, wall: SystemTime) -> Option<PeerSet> {
        let path = self.path.display();
        match self.load(wall) {
            Ok(set) => {
                info!("discovery: {} peers from the cache {path}", set.len());
                Some(set)
            }
            Err(CacheError::Read(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!("discovery: the cache {path} is not used: {error}");
                None
            }
        }
    }

    fn load(&self, wall: SystemTime) -> Result<PeerSet, CacheError> {
        let mut text = Vec::new();
        File::open(&self.path)?.take(MAX_FILE).read_to_end(&mut text)?;
        // From a slice, like the documents: another reader would add 8 KB to the binary.
        let list: StoredList = serde_json::from_slice(&text)?;
        if list.format != FORMAT {
            return Err(CacheError::OtherFormat(list.format));
        }
        if list.node != self.node.as_str() {
            return Err(CacheError::OtherNode);
        }
        if list.scope != self.scope {
            return Err(CacheError::OtherScope);
        }
        // A list from the future means that the clock is wrong, as on a board without a battery. It is
        // used: a probe to an outdated address is harmless, since its answer is checked.
        let age = u64::try_from(unix_seconds(wall).saturating_sub(list.saved)).unwrap_or(0);
        let age = Duration::from_secs(age);
        if age > MAX_AGE {
            return Err(CacheError::TooOld(age));
        }
        if list.peers.len() > MAX_PEERS {
            return Err(CacheError::TooMany);
        }
        list.peers.into_iter().map(|peer| restored(peer, &self.node)).collect()
    }

    /// Writes a list that differs from the cached one. Logs the first of several failures in a row.
    pub fn write(&mut self, set: &PeerSet, wall: SystemTime) {
        let hash = hash_of(set);
        if let Some((written, when)) = self.written {
            let age = wall.duration_since(when).unwrap_or(REWRITE_AFTER);
            if written == hash && age < REWRITE_AFTER {
                return;
            }
        }
        let result = self.store(set, wall);
        let was_failing = std::mem::replace(&mut self.failing, result.is_err());
        let path = self.path.display();
        match result {
            Ok(()) => {
                if was_failing {
                    info!("discovery: writing the cache {path} works again");
                }
                self.written = Some((hash, wall));
            }
            Err(error) if !was_failing => warn!("discovery: write the cache {path}: {error}"),
            Err(_) => {}
        }
    }

    fn store(&self, set: &PeerSet, wall: SystemTime) -> io::Result<()> {
        let new = self.path.with_file_name(format!(".{FILE}.new"));
        let list = StoredList {
            format: FORMAT,
            node: self.node.to_string(),
            scope: self.scope.clone(),
            saved: unix_seconds(wall),
            peers: set.iter().map(stored).collect(),
        };
        let mut output = File::create(&new)?;
        output.write_all(&serde_json::to_vec(&list)?)?;
        // Before the rename: after a power cut an empty file would be worse than the old one.
        output.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}

fn stored(peer: &Peer) -> StoredPeer {
    StoredPeer {
        node: peer.node.to_string(),
        address: peer.address,
        others: peer.other_addresses.clone(),
        instance: peer.instance.as_ref().map(ToString::to_string),
    }
}

fn restored(peer: StoredPeer, own: &NodeName) -> Result<Peer, CacheError> {
    let node = NodeName::new(&peer.node).map_err(|_| CacheError::Invalid("node name"))?;
    if node == *own || peer.address.port() == 0 {
        return Err(CacheError::Invalid("node name or port"));
    }
    let instance = peer.instance.map(|text| Instance::new(&text)).transpose();
    Ok(Peer {
        node,
        address: peer.address,
        other_addresses: peer.others,
        instance: instance.map_err(|_| CacheError::Invalid("instance"))?,
        ready: None,
    })
}

/// Hash of what the file holds: readiness changes often and is not stored.
fn hash_of(set: &PeerSet) -> u64 {
    let mut hasher = DefaultHasher::new();
    for peer in set.iter() {
        (&peer.node, peer.address, &peer.other_addresses, &peer.instance).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wylis_harness::TempDir;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn peers() -> PeerSet {
        let peer = |name: &str, address: &str| Peer {
            node: node(name),
            address: address.parse().unwrap(),
            other_addresses: vec!["fd00::7".parse().unwrap()],
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
        let mut cache = PeerCache::new(dir.path(), node("me"), "ns/app=wylis");
        assert_eq!(cache.read(now()), None);
        cache.write(&peers(), now());
        let mut again = PeerCache::new(dir.path(), node("me"), "ns/app=wylis");
        let expected: PeerSet =
            peers().iter().cloned().map(|peer| Peer { ready: None, ..peer }).collect();
        assert_eq!(again.read(now() + Duration::from_secs(86_000)), Some(expected.clone()));
        assert_eq!(again.read(SystemTime::UNIX_EPOCH), Some(expected), "a board without a clock");
        let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");
    }

    #[test]
    fn a_list_of_another_agent_or_day_is_ignored() {
        let dir = TempDir::new("cache");
        PeerCache::new(dir.path(), node("me"), "ns/x").write(&peers(), now());
        let read = |name: &str, scope: &str, wall| {
            PeerCache::new(dir.path(), node(name), scope).read(wall).is_some()
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
        let mut cache = PeerCache::new(dir.path(), node("me"), "s");
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
        let mut cache = PeerCache::new(dir.path(), node("me"), "s");
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
        let mut cache = PeerCache::new(&missing, node("me"), "s");
        cache.write(&peers(), now());
        assert!(cache.failing && cache.written.is_none());
        std::fs::create_dir(&missing).unwrap();
        cache.write(&peers(), now());
        assert!(!cache.failing && cache.read(now()).is_some());
    }
}
