//! Decodes a pod list as a stream: one item at a time, into the few fields that discovery uses.
//!
//! A list of 1,000 pods has 8.8 MB, of which 0.2 MB are stored. Unknown fields are ignored, a malformed
//! item costs only that item, and only broken JSON costs the list. A `Table` of the same pods is decoded
//! into a digest of its rows.

use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::lenient::{ForEach, Lenient, Malformed, lenient_structs};
use super::pods::{MAX_PODS, Pod, PodPhase};
use super::table::{ColumnPlaces, TableDigest};
use super::time;
use crate::name::{Instance, MAX_NODE_NAME, NodeName};

/// Longest resource version: a number of up to 20 digits, which the next request repeats.
const MAX_VERSION: usize = 64;
/// Malformed items that the log shows.
const MAX_EXAMPLES: usize = 3;

/// The contents of a list.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The pods in the order of the list; none in a `Table`.
    pub(super) pods: Vec<Pod>,
    /// The digest of the rows; `None` for a `PodList`.
    pub(super) table: Option<TableDigest>,
    /// When the server wrote the list, by the clock that also set the times of the pods.
    pub(super) date: Option<SystemTime>,
    /// The list's resource version, so that the next request asks for nothing older.
    pub(super) version: Option<String>,
    /// Items that cannot be decoded.
    pub(super) malformed: usize,
    /// The first of them, with what is wrong; quoted.
    pub(super) examples: Vec<String>,
}

impl Listing {
    /// Whether decoding stopped because there are more items or rows than the agent holds.
    pub(super) fn overflows(&self) -> bool {
        let rows = self.table.map_or(0, |table| table.rows);
        self.pods.len() + self.malformed > MAX_PODS || rows > MAX_PODS
    }

    fn add(
        &mut self,
        item: Lenient<Item>,
        own_name: Option<&str>,
        controller: &mut Option<Arc<str>>,
    ) -> Result<(), &'static str> {
        let mut name = String::new();
        let item = item.required("item");
        match item.and_then(|item| item.pod(own_name, controller, &mut name)) {
            Ok(pod) => self.pods.push(pod),
            Err(error) => {
                self.malformed += 1;
                if self.examples.len() < MAX_EXAMPLES {
                    let name: String = name.chars().take(MAX_NODE_NAME).collect();
                    self.examples.push(format!("{name:?} ({error})"));
                }
            }
        }
        if self.overflows() { Err("too many items") } else { Ok(()) }
    }
}

/// Decodes a list, up to the first error. `own_name` is the name of this agent's pod.
pub(super) fn decode(
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
        let Self { listing, own_name } = self;
        let (mut kind, mut found) = (None, None);
        let mut places = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "kind" => kind = Some(map.next_value::<Lenient<String>>()?),
                "metadata" => {
                    if let Lenient::Is(meta) = map.next_value::<Lenient<ListMeta>>()? {
                        listing.version = meta.version();
                    }
                }
                "items" => {
                    let mut controller = None;
                    let add = |item| listing.add(item, own_name, &mut controller);
                    map.next_value_seed(ForEach::new(add))?;
                    found = Some("PodList");
                }
                "columnDefinitions" => {
                    if let Lenient::Is(columns) = map.next_value::<Lenient<Vec<_>>>()? {
                        places = ColumnPlaces::find(&columns);
                    }
                }
                "rows" => {
                    let places = places.ok_or_else(|| A::Error::custom("unknown columns"))?;
                    let digest = listing.table.insert(TableDigest::default());
                    map.next_value_seed(ForEach::new(|row| digest.add(&places, &row)))?;
                    found = Some("Table");
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let found = found.ok_or_else(|| A::Error::custom("neither items nor rows"))?;
        match kind {
            Some(kind) if kind != Lenient::Is(found.to_owned()) => {
                Err(A::Error::custom("the kind is neither PodList nor Table"))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: Lenient<String>,
}

impl ListMeta {
    /// The version, where it can stand in a query.
    fn version(self) -> Option<String> {
        let version = self.resource_version.optional("").ok().flatten()?;
        let plain = version.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Some(version).filter(|text| plain && (1..=MAX_VERSION).contains(&text.len()))
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

lenient_structs!(ListMeta, Item, Meta, Owner, Spec, Status, Condition, Ip);

impl Item {
    /// The pod. Its name goes to `name` as soon as it is known.
    fn pod(
        self,
        own_name: Option<&str>,
        controller: &mut Option<Arc<str>>,
        name: &mut String,
    ) -> Result<Pod, Malformed> {
        let meta = self.metadata.required("metadata")?;
        *name = meta.name.optional("metadata.name")?.unwrap_or_default();
        let uid = meta.uid.required("metadata.uid")?;
        let created = timestamp(meta.creation_timestamp, "metadata.creationTimestamp")?;
        let owners = meta.owner_references.optional("metadata.ownerReferences")?;
        let spec = self.spec.optional("spec")?.unwrap_or_default();
        let node = spec.node_name.optional("spec.nodeName")?.filter(|node| !node.is_empty());
        let node = node.map(|node| NodeName::new(&node)).transpose();
        let status = self.status.optional("status")?.unwrap_or_default();
        let phase = status.phase.optional("status.phase")?;
        Ok(Pod {
            uid: Instance::new(&uid).map_err(|_| Malformed::Value("metadata.uid"))?,
            has_own_name: own_name.is_some_and(|own_name| own_name == name),
            node: node.map_err(|_| Malformed::Value("spec.nodeName"))?,
            controller: controller_uid(owners.unwrap_or_default(), controller)?,
            created: created.ok_or(Malformed::Missing("metadata.creationTimestamp"))?,
            deadline: timestamp(meta.deletion_timestamp, "metadata.deletionTimestamp")?,
            phase: match phase.as_deref() {
                None | Some("" | "Pending") => PodPhase::Pending,
                Some("Succeeded" | "Failed") => PodPhase::Ended,
                Some(_) => PodPhase::Running,
            },
            ready: is_ready(status.conditions)?,
            ips: addresses(status.pod_ip, status.pod_ips)?,
        })
    }
}

fn timestamp(field: Lenient<String>, name: &'static str) -> Result<Option<i64>, Malformed> {
    let text = field.optional(name)?;
    text.map(|text| time::seconds(&text).ok_or(Malformed::Value(name))).transpose()
}

/// The UID of the controller. Almost all pods of a list have the same one, so `last` shares it.
fn controller_uid(
    owners: Vec<Lenient<Owner>>,
    last: &mut Option<Arc<str>>,
) -> Result<Option<Arc<str>>, Malformed> {
    const NAME: &str = "metadata.ownerReferences";
    for owner in owners {
        let owner = owner.required(NAME)?;
        if owner.controller.optional(NAME)? == Some(true) {
            let uid = owner.uid.required(NAME)?;
            if last.as_deref() != Some(&*uid) {
                *last = Some(uid.into());
            }
            return Ok(last.clone());
        }
    }
    Ok(None)
}

fn is_ready(conditions: Lenient<Vec<Lenient<Condition>>>) -> Result<bool, Malformed> {
    const NAME: &str = "status.conditions";
    for condition in conditions.optional(NAME)?.unwrap_or_default() {
        let condition = condition.required(NAME)?;
        if condition.kind.optional(NAME)?.as_deref() == Some("Ready") {
            return Ok(condition.status.optional(NAME)?.as_deref() == Some("True"));
        }
    }
    Ok(false)
}

/// All addresses of a pod, the primary one first, each once.
fn addresses(
    primary: Lenient<String>,
    all: Lenient<Vec<Lenient<Ip>>>,
) -> Result<Vec<IpAddr>, Malformed> {
    const NAME: &str = "status.podIPs";
    let mut texts = Vec::new();
    texts.extend(primary.optional("status.podIP")?.filter(|text| !text.is_empty()));
    for ip in all.optional(NAME)?.unwrap_or_default() {
        texts.push(ip.required(NAME)?.ip.required(NAME)?);
    }
    let mut ips = Vec::new();
    for text in texts {
        let ip: IpAddr = text.parse().map_err(|_| Malformed::Value(NAME))?;
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(Malformed::Value(NAME));
        }
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    Ok(ips)
}

#[cfg(test)]
mod tests;
