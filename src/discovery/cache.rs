//! The last good peer list in a file, for an agent that restarts while the API server is away.
//!
//! Readiness is not stored, since it would be out of date. No error here ends the agent. Links on the way
//! to the directory are followed, since its path is a setting; what lies in it is not trusted.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use log::{info, warn};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{AddressRule, unix_seconds};
use crate::bounded_list::BoundedList;
use crate::file;
use crate::name::{Instance, NodeName};
use crate::peer::{MAX_PEERS, Peer, PeerSet};

/// The file's name in the state directory.
const FILE: &str = "peers.json";
/// The file that is written and then renamed.
const TEMPORARY: &str = ".peers.json.new";
/// The format of the file; one with another number is ignored.
const FORMAT: u32 = 1;
/// Oldest list that is used: later its addresses may belong to other pods.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// An unchanged list is written again after this time, so that its date stays true. Not more often,
/// since flash wears out.
const REWRITE_AFTER: Duration = Duration::from_secs(3600);
/// Longest file: [`MAX_PEERS`] peers with the longest names and addresses.
const MAX_FILE: u64 = 3 << 19;
/// Other addresses of a peer that are stored: a pod has one of each family.
const MAX_OTHERS: usize = 3;

/// The file, and what it holds.
#[derive(Debug)]
pub struct PeerCache {
    path: PathBuf,
    node: NodeName,
    scope: String,
    rule: AddressRule,
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
    peers: BoundedList<StoredPeer, MAX_PEERS>,
}

#[derive(Serialize, Deserialize)]
struct StoredPeer {
    node: String,
    address: SocketAddr,
    #[serde(default, skip_serializing_if = "BoundedList::is_empty")]
    others: BoundedList<IpAddr, MAX_OTHERS>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<IpAddr>,
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
    /// namespace and selector: a list of another scope is not used, nor is one with an address that
    /// `rule` refuses.
    #[must_use]
    pub fn new(dir: &Path, node: NodeName, scope: &str, rule: AddressRule) -> Self {
        let (path, scope) = (dir.join(FILE), scope.to_owned());
        Self { path, node, scope, rule, written: None, failing: false }
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
        let text = file::read_own(&self.path, MAX_FILE)?;
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
        list.peers.0.into_iter().map(|peer| restored(peer, &self.node, &self.rule)).collect()
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
        let list = StoredList {
            format: FORMAT,
            node: self.node.to_string(),
            scope: self.scope.clone(),
            saved: unix_seconds(wall),
            peers: BoundedList(set.iter().map(stored).collect()),
        };
        let text = serde_json::to_vec(&list)?;
        if text.len() as u64 > MAX_FILE {
            // It would not be read.
            return Err(io::Error::other(format!("the list is longer than {MAX_FILE} bytes")));
        }
        let temporary = self.path.with_file_name(TEMPORARY);
        file::replace(&self.path, &temporary, &mut |file| file.write_all(&text))
    }
}

fn stored(peer: &Peer) -> StoredPeer {
    StoredPeer {
        node: peer.node.to_string(),
        address: peer.address,
        others: BoundedList(peer.other_addresses.iter().take(MAX_OTHERS).copied().collect()),
        host: peer.host,
        instance: peer.instance.as_ref().map(ToString::to_string),
    }
}

fn restored(peer: StoredPeer, own: &NodeName, rule: &AddressRule) -> Result<Peer, CacheError> {
    let node = NodeName::new(&peer.node).map_err(|_| CacheError::Invalid("node name"))?;
    if node == *own || peer.address.port() == 0 {
        return Err(CacheError::Invalid("node name or port"));
    }
    if rule.refusal(peer.address).is_some() {
        return Err(CacheError::Invalid("address"));
    }
    let instance = peer.instance.map(|text| Instance::new(&text)).transpose();
    Ok(Peer {
        node,
        address: peer.address,
        other_addresses: peer.others.0,
        // One that is not allowed any more, as after a change of the port, is no reason to drop the list.
        host: peer.host.filter(|host| rule.allows_host(*host)),
        instance: instance.map_err(|_| CacheError::Invalid("instance"))?,
        ready: None,
    })
}

/// Hash of what the file holds: readiness changes often and is not stored.
fn hash_of(set: &PeerSet) -> u64 {
    let mut hasher = DefaultHasher::new();
    for peer in set.iter() {
        let Peer { node, address, other_addresses, host, instance, ready: _ } = peer;
        (node, address, other_addresses, host, instance).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
