//! The last good list, kept in a file, so that an agent that restarts while the API server is away
//! still holds the door.
//!
//! Readiness is not kept: it would be a claim about a time long past. Nothing here is ever fatal.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use log::{info, warn};
use serde::{Deserialize, Serialize};

use super::unix_seconds;
use crate::name::{Instance, NodeName};
use crate::peer::MAX_PEERS;
use crate::peer::{Peer, PeerSet};

/// The file's name in the state directory.
const FILE: &str = "peers.json";
/// Of another format than this, a file is not read.
const FORMAT: u32 = 1;
/// An older list describes another cluster than today's: addresses have been given to other pods.
const STALE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// An unchanged list is written again after this, so that its date stays true; seldom, since flash
/// wears out.
const WRITE_AGAIN: Duration = Duration::from_secs(3600);
/// Longest file: [`MAX_PEERS`] peers of the longest names take about 3 MB.
const MAX_FILE: u64 = 4 << 20;

/// The file and what we know of it.
#[derive(Debug)]
pub struct PeerCache {
    dir: PathBuf,
    node: NodeName,
    scope: String,
    /// Hash of the peers in the file, and when it was written.
    written: Option<(u64, SystemTime)>,
    failing: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored {
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

/// Why a kept list is not used.
#[derive(Debug)]
enum Unusable {
    Read(io::Error),
    Damaged(String),
    OtherFormat(u32),
    OtherNode,
    OtherScope,
    Stale(Duration),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot be read: {error}"),
            Self::Damaged(text) => write!(f, "is damaged: {text}"),
            Self::OtherFormat(format) => write!(f, "has the format {format}, not {FORMAT}"),
            Self::OtherNode => f.write_str("is another node's"),
            Self::OtherScope => f.write_str("is of another namespace or selector"),
            Self::Stale(age) => write!(f, "is {} hours old", age.as_secs() / 3600),
        }
    }
}

impl PeerCache {
    /// The list in that folder, of that node. `scope` tells what the list is of (the namespace and
    /// the selector, say): a list of another scope is not ours.
    #[must_use]
    pub fn new(dir: &Path, node: NodeName, scope: &str) -> Self {
        let scope = scope.to_owned();
        Self { dir: dir.to_owned(), node, scope, written: None, failing: false }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// The kept peers, if there are any that can be trusted. Tells why not.
    #[must_use]
    pub fn read(&mut self, wall: SystemTime) -> Option<PeerSet> {
        match self.load(wall) {
            Ok(set) => {
                info!("discovery: peers known from {}: {}", self.path().display(), set.len());
                Some(set)
            }
            Err(Unusable::Read(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(why) => {
                warn!("discovery: the kept list {} is ignored: it {why}", self.path().display());
                None
            }
        }
    }

    fn load(&self, wall: SystemTime) -> Result<PeerSet, Unusable> {
        let file = File::open(self.path()).map_err(Unusable::Read)?;
        let input = BufReader::new(file.take(MAX_FILE));
        let stored: Stored =
            serde_json::from_reader(input).map_err(|error| Unusable::Damaged(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(Unusable::OtherFormat(stored.format));
        }
        if stored.node != self.node.as_str() {
            return Err(Unusable::OtherNode);
        }
        if stored.scope != self.scope {
            return Err(Unusable::OtherScope);
        }
        // A clock that went back (a board without one) tells nothing of the age: such a list is
        // used, since a probe to a wrong address harms nobody and its answer is checked.
        let age = u64::try_from(unix_seconds(wall).saturating_sub(stored.saved)).unwrap_or(0);
        let age = Duration::from_secs(age);
        if age > STALE_AFTER {
            return Err(Unusable::Stale(age));
        }
        if stored.peers.len() > MAX_PEERS {
            return Err(Unusable::Damaged(format!("more than {MAX_PEERS} peers")));
        }
        stored.peers.into_iter().map(|peer| restore(peer, &self.node)).collect()
    }

    /// Keeps a list, when it differs from the kept one. A failure is told once.
    pub fn write(&mut self, set: &PeerSet, wall: SystemTime) {
        let hash = hash_of(set);
        if let Some((written, when)) = self.written {
            let age = wall.duration_since(when).unwrap_or(WRITE_AGAIN);
            if written == hash && age < WRITE_AGAIN {
                return;
            }
        }
        match self.store(set, wall) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    info!("discovery: the list is kept again in {}", self.path().display());
                }
                self.written = Some((hash, wall));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let path = self.path();
                    warn!("discovery: the list cannot be kept in {}: {error}", path.display());
                }
            }
        }
    }

    fn store(&self, set: &PeerSet, wall: SystemTime) -> io::Result<()> {
        let new = self.dir.join(format!(".{FILE}.new"));
        let stored = Stored {
            format: FORMAT,
            node: self.node.to_string(),
            scope: self.scope.clone(),
            saved: unix_seconds(wall),
            peers: set.iter().map(stored).collect(),
        };
        let mut output = BufWriter::new(File::create(&new)?);
        serde_json::to_writer(&mut output, &stored)?;
        output.flush()?;
        // Before the rename: small boards lose their power, and an empty file under the final name
        // would be worse than the old one.
        output.get_ref().sync_all()?;
        std::fs::rename(&new, self.path())
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

fn restore(peer: StoredPeer, own: &NodeName) -> Result<Peer, Unusable> {
    let damaged = |what: &str| Unusable::Damaged(format!("{what} of a peer"));
    let node = NodeName::new(&peer.node).map_err(|_| damaged("the name"))?;
    if node == *own || peer.address.port() == 0 {
        return Err(damaged("the name or the port"));
    }
    let instance = peer.instance.map(|text| Instance::new(&text)).transpose();
    Ok(Peer {
        node,
        address: peer.address,
        other_addresses: peer.others,
        instance: instance.map_err(|_| damaged("the instance"))?,
        ready: None,
    })
}

/// Of what the file holds: readiness changes often, and is not kept.
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
        [peer("a", "10.0.0.2:9050"), peer("b", "[fd00::3]:9050")].into_iter().collect()
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn a_kept_list_comes_back_without_its_readiness() {
        let dir = TempDir::new("kept");
        let mut kept = PeerCache::new(dir.path(), node("me"), "ns/app=wylis");
        assert_eq!(kept.read(now()), None);
        kept.write(&peers(), now());
        let mut again = PeerCache::new(dir.path(), node("me"), "ns/app=wylis");
        let expected: PeerSet =
            peers().iter().cloned().map(|peer| Peer { ready: None, ..peer }).collect();
        assert_eq!(again.read(now() + Duration::from_secs(86_000)), Some(expected.clone()));
        assert_eq!(again.read(SystemTime::UNIX_EPOCH), Some(expected), "a board without a clock");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn what_is_not_ours_or_too_old_is_ignored() {
        let dir = TempDir::new("kept");
        PeerCache::new(dir.path(), node("me"), "ns/x").write(&peers(), now());
        let read = |name: &str, scope: &str, wall| {
            PeerCache::new(dir.path(), node(name), scope).read(wall).is_some()
        };
        assert!(read("me", "ns/x", now()));
        assert!(!read("other", "ns/x", now()));
        assert!(!read("me", "ns/y", now()));
        assert!(!read("me", "ns/x", now() + STALE_AFTER + Duration::from_secs(1)));
        assert!(!read("a", "ns/x", now()), "a list that names ourselves as a peer");
    }

    #[test]
    fn a_damaged_file_is_ignored() {
        let dir = TempDir::new("kept");
        let mut kept = PeerCache::new(dir.path(), node("me"), "s");
        kept.write(&peers(), now());
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
            assert_eq!(kept.read(now()), None, "{text}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(kept.read(now()).is_some());
    }

    #[test]
    fn an_unchanged_list_is_written_once_an_hour_for_its_date() {
        let dir = TempDir::new("kept");
        let path = dir.path().join(FILE);
        let mut kept = PeerCache::new(dir.path(), node("me"), "s");
        let mut set = peers();
        let mut written = |set: &PeerSet, seconds: u64| {
            let _ = std::fs::remove_file(&path);
            kept.write(set, now() + Duration::from_secs(seconds));
            path.exists()
        };
        assert!(written(&set, 0));
        assert!(!written(&set, 30));
        let unready = set.iter().cloned().map(|peer| Peer { ready: Some(false), ..peer });
        assert!(!written(&unready.collect(), 60), "readiness is not kept");
        assert!(written(&set, 3600));
        let template = set.iter().next().unwrap().clone();
        set.insert(Peer { node: node("c"), ..template });
        assert!(written(&set, 3601));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_disaster() {
        let dir = TempDir::new("kept");
        let missing = dir.path().join("missing");
        let mut kept = PeerCache::new(&missing, node("me"), "s");
        kept.write(&peers(), now());
        assert!(kept.failing && kept.written.is_none());
        std::fs::create_dir(&missing).unwrap();
        kept.write(&peers(), now());
        assert!(!kept.failing && kept.read(now()).is_some());
    }
}
