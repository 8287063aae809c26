//! A pod list read as a stream: one item at a time, into the few fields that decide.
//!
//! A list of 1,000 pods has 8.8 MB; what is kept of it has 0.2 MB. Unknown fields are ignored, a
//! malformed item costs that item, and only broken JSON costs the list. A `Table` of the same pods is
//! read as well, into a sum of its rows.

use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::lenient::{Lenient, WrongType, made_of_a_map};
use super::pods::{Pod, PodPhase};
use super::table::{Column, Columns, RowSum, Rows};
use super::time;
use crate::name::Instance;
use crate::name::NodeName;
use crate::peer::MAX_PEERS;

/// A rolling update shows two pods a node at most.
pub(super) const MAX_PODS: usize = 2 * MAX_PEERS;
/// A resource version is a number of up to 20 digits; anything longer is not handed back.
const MAX_VERSION: usize = 64;
/// How many malformed items are remembered for the log.
const MAX_TOLD: usize = 3;

/// What a list held.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The pods, in the order of the list; none of a `Table`.
    pub(super) pods: Vec<Pod>,
    /// What the rows tell; `None` of a `PodList`.
    pub(super) rows: Option<RowSum>,
    /// When the server wrote it, by its own clock, which also set the times of the pods.
    pub(super) date: Option<SystemTime>,
    /// The list's own version, to ask for nothing older.
    pub(super) version: Option<String>,
    /// How many items could not be read.
    pub(super) malformed: usize,
    /// The first of them, with what is wrong; quoted.
    pub(super) told: Vec<String>,
    /// There were more items than we hold.
    pub(super) overflow: bool,
}

/// Reads one list. `own_name` is our own pod's.
pub(super) fn read(
    source: impl Read,
    own_name: Option<&str>,
) -> (Listing, Result<(), serde_json::Error>) {
    let mut listing = Listing::default();
    let mut json = serde_json::Deserializer::from_reader(source);
    let seed = List { listing: &mut listing, own_name };
    let result = seed.deserialize(&mut json).and_then(|()| json.end());
    (listing, result)
}

struct List<'a> {
    listing: &'a mut Listing,
    own_name: Option<&'a str>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: Lenient<String>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a PodList or a Table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut kind, mut held) = (None, None);
        let mut columns = None;
        while let Some(key) = map.next_key::<Lenient<String>>()? {
            match key {
                Lenient::Is(key) if key == "kind" => {
                    kind = Some(map.next_value::<Lenient<String>>()?);
                }
                Lenient::Is(key) if key == "metadata" => {
                    let meta: Lenient<ListMeta> = map.next_value()?;
                    self.listing.version = match meta {
                        Lenient::Is(ListMeta { resource_version: Lenient::Is(version) }) => {
                            Some(version).filter(|version| is_version(version))
                        }
                        _ => None,
                    };
                }
                Lenient::Is(key) if key == "items" => {
                    map.next_value_seed(Items { list: &mut *self.listing, own: self.own_name })?;
                    held = Some("PodList");
                }
                Lenient::Is(key) if key == "columnDefinitions" => {
                    let all: Lenient<Vec<Lenient<Column>>> = map.next_value()?;
                    columns = all.optional("columnDefinitions").ok().flatten();
                }
                Lenient::Is(key) if key == "rows" => {
                    let found = columns.take().and_then(|all: Vec<_>| Columns::find(&all));
                    let found = found.ok_or_else(|| A::Error::custom("the columns are unknown"))?;
                    let seed = Rows { columns: found, overflow: &mut self.listing.overflow };
                    self.listing.rows = Some(map.next_value_seed(seed)?);
                    held = Some("Table");
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let held = held.ok_or_else(|| A::Error::custom("neither items nor rows"))?;
        match kind {
            Some(kind) if kind != Lenient::Is(held.to_owned()) => {
                Err(A::Error::custom("the kind is neither PodList nor Table"))
            }
            _ => Ok(()),
        }
    }
}

fn is_version(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    !text.is_empty() && text.len() <= MAX_VERSION && plain
}

struct Items<'a> {
    list: &'a mut Listing,
    own: Option<&'a str>,
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // `null` is how Go writes a list that was never made.
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of pods")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut last_controller: Option<Arc<str>> = None;
        while let Some(item) = seq.next_element::<Lenient<Item>>()? {
            if self.list.pods.len() + self.list.malformed >= MAX_PODS {
                self.list.overflow = true;
                return Err(A::Error::custom("too many items"));
            }
            let (name, pod) = match item {
                Lenient::Is(item) => item.pod(self.own, &mut last_controller),
                _ => (None, Err(Malformed::Type("item"))),
            };
            match pod {
                Ok(pod) => self.list.pods.push(pod),
                Err(why) => {
                    self.list.malformed += 1;
                    if self.list.told.len() < MAX_TOLD {
                        let name: String = name.unwrap_or_default().chars().take(253).collect();
                        self.list.told.push(format!("{name:?} ({why})"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is wrong with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Malformed {
    Type(&'static str),
    Missing(&'static str),
    Value(&'static str),
}

impl From<WrongType> for Malformed {
    fn from(WrongType(name): WrongType) -> Self {
        Self::Type(name)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(name) => write!(f, "{name} has the wrong type"),
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Value(name) => write!(f, "{name} is malformed"),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Item {
    metadata: Lenient<Meta>,
    spec: Lenient<Spec>,
    status: Lenient<Status>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    name: Lenient<String>,
    uid: Lenient<String>,
    creation_timestamp: Lenient<String>,
    deletion_timestamp: Lenient<String>,
    owner_references: Lenient<Vec<Lenient<Owner>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owner {
    uid: Lenient<String>,
    controller: Lenient<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: Lenient<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: Lenient<String>,
    conditions: Lenient<Vec<Lenient<Condition>>>,
    #[serde(rename = "podIP")]
    pod_ip: Lenient<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Lenient<Vec<Lenient<Ip>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: Lenient<String>,
    status: Lenient<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ip {
    ip: Lenient<String>,
}

made_of_a_map!(ListMeta, Item, Meta, Owner, Spec, Status, Condition, Ip);

impl Item {
    /// The pod, and the name for the log where there is one.
    fn pod(
        self,
        own_name: Option<&str>,
        last: &mut Option<Arc<str>>,
    ) -> (Option<String>, Result<Pod, Malformed>) {
        let mut name = None;
        let pod = self.decoded(own_name, last, &mut name);
        (name, pod)
    }

    fn decoded(
        self,
        own_name: Option<&str>,
        last: &mut Option<Arc<str>>,
        told: &mut Option<String>,
    ) -> Result<Pod, Malformed> {
        let meta = self.metadata.optional("metadata")?.ok_or(Malformed::Missing("metadata"))?;
        let name = meta.name.optional("metadata.name")?;
        let own_name = own_name.is_some() && name.as_deref() == own_name;
        *told = name;
        let uid = meta.uid.optional("metadata.uid")?.ok_or(Malformed::Missing("metadata.uid"))?;
        let created = stamp(meta.creation_timestamp, "metadata.creationTimestamp")?;
        let owners = meta.owner_references.optional("metadata.ownerReferences")?;
        let spec = self.spec.optional("spec")?.unwrap_or_default();
        let node = spec.node_name.optional("spec.nodeName")?.filter(|name| !name.is_empty());
        let node = node.map(|name| NodeName::new(&name)).transpose();
        let status = self.status.optional("status")?.unwrap_or_default();
        let phase = status.phase.optional("status.phase")?;
        Ok(Pod {
            uid: Instance::new(&uid).map_err(|_| Malformed::Value("metadata.uid"))?,
            own_name,
            node: node.map_err(|_| Malformed::Value("spec.nodeName"))?,
            controller: controller(owners.unwrap_or_default(), last)?,
            created: created.ok_or(Malformed::Missing("metadata.creationTimestamp"))?,
            deadline: stamp(meta.deletion_timestamp, "metadata.deletionTimestamp")?,
            phase: match phase.as_deref() {
                None | Some("" | "Pending") => PodPhase::Pending,
                Some("Succeeded" | "Failed") => PodPhase::Ended,
                Some(_) => PodPhase::Running,
            },
            ready: ready(status.conditions)?,
            ips: addresses(status.pod_ip, status.pod_ips)?,
        })
    }
}

fn stamp(field: Lenient<String>, name: &'static str) -> Result<Option<i64>, Malformed> {
    let text = field.optional(name)?;
    text.map(|text| time::seconds(&text).ok_or(Malformed::Value(name))).transpose()
}

/// Almost all pods of a list have the same controller: its UID is kept once.
fn controller(
    owners: Vec<Lenient<Owner>>,
    last: &mut Option<Arc<str>>,
) -> Result<Option<Arc<str>>, Malformed> {
    const NAME: &str = "metadata.ownerReferences";
    for owner in owners {
        let owner = owner.optional(NAME)?.ok_or(Malformed::Type(NAME))?;
        if owner.controller.optional(NAME)? != Some(true) {
            continue;
        }
        let uid = owner.uid.optional(NAME)?.ok_or(Malformed::Missing(NAME))?;
        let known = last.as_ref().filter(|known| ***known == *uid).cloned();
        let uid = known.unwrap_or_else(|| uid.into());
        *last = Some(Arc::clone(&uid));
        return Ok(Some(uid));
    }
    Ok(None)
}

fn ready(conditions: Lenient<Vec<Lenient<Condition>>>) -> Result<bool, Malformed> {
    const NAME: &str = "status.conditions";
    for condition in conditions.optional(NAME)?.unwrap_or_default() {
        let condition = condition.optional(NAME)?.ok_or(Malformed::Type(NAME))?;
        if condition.kind.optional(NAME)?.as_deref() == Some("Ready") {
            return Ok(condition.status.optional(NAME)?.as_deref() == Some("True"));
        }
    }
    Ok(false)
}

/// The primary first, each once.
fn addresses(
    primary: Lenient<String>,
    all: Lenient<Vec<Lenient<Ip>>>,
) -> Result<Vec<IpAddr>, Malformed> {
    const NAME: &str = "status.podIPs";
    let mut ips = Vec::new();
    let mut add = |text: &str| {
        let ip: IpAddr = text.parse().map_err(|_| Malformed::Value(NAME))?;
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(Malformed::Value(NAME));
        }
        if !ips.contains(&ip) {
            ips.push(ip);
        }
        Ok(())
    };
    if let Some(text) = primary.optional("status.podIP")?.filter(|text| !text.is_empty()) {
        add(&text)?;
    }
    for ip in all.optional(NAME)?.unwrap_or_default() {
        let ip = ip.optional(NAME)?.ok_or(Malformed::Type(NAME))?;
        add(&ip.ip.optional(NAME)?.ok_or(Malformed::Missing(NAME))?)?;
    }
    Ok(ips)
}

#[cfg(test)]
mod tests;
