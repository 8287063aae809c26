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

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::lenient::Shape::{self, List, Object, Plain};
use super::lenient::{ForEach, Lenient, Malformed};
use super::pods::{MAX_PODS, Pod, PodPhase};
use super::table::{self, ColumnPlaces, TableDigest};
use super::time;
use crate::name::{Instance, MAX_INSTANCE, MAX_NODE_NAME, NodeName};

/// Longest resource version: a number of up to 20 digits, which the next request repeats.
const MAX_VERSION: usize = 64;
/// Addresses of a pod that are kept. Kubernetes gives it one of each family.
const MAX_POD_IPS: usize = 4;
/// Malformed items that the log shows.
const MAX_EXAMPLES: usize = 3;

/// The used fields of a list's metadata and of a pod.
const LIST_META: Shape = Object(&[("resourceVersion", Plain)]);
const ITEM: Shape = Object(&[
    (
        "metadata",
        Object(&[
            ("name", Plain),
            ("uid", Plain),
            ("creationTimestamp", Plain),
            ("deletionTimestamp", Plain),
            ("ownerReferences", List(&Object(&[("uid", Plain), ("controller", Plain)]))),
        ]),
    ),
    ("spec", Object(&[("nodeName", Plain)])),
    (
        "status",
        Object(&[
            ("phase", Plain),
            ("hostIP", Plain),
            ("conditions", List(&Object(&[("type", Plain), ("status", Plain)]))),
            ("podIP", Plain),
            ("podIPs", List(&Object(&[("ip", Plain)]))),
        ]),
    ),
]);

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
        item: &Lenient,
        own_name: Option<&str>,
        controller: &mut Option<Arc<str>>,
    ) -> Result<(), &'static str> {
        let mut name = String::new();
        match pod(item, own_name, controller, &mut name) {
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
    let seed = Document { listing: &mut listing, own_name };
    let result = seed.deserialize(&mut json).and_then(|()| json.end());
    (listing, result)
}

struct Document<'a> {
    listing: &'a mut Listing,
    own_name: Option<&'a str>,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
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
                "kind" => kind = Some(map.next_value_seed(&Plain)?),
                "metadata" => {
                    listing.version = version(&map.next_value_seed(&LIST_META)?);
                }
                "items" => {
                    let mut controller = None;
                    let pass_on =
                        &mut |item: Lenient| listing.add(&item, own_name, &mut controller);
                    map.next_value_seed(ForEach { shape: &ITEM, pass_on })?;
                    found = Some("PodList");
                }
                "columnDefinitions" => {
                    places = ColumnPlaces::find(&map.next_value_seed(&table::DEFINITIONS)?);
                }
                "rows" => {
                    let places = places.ok_or_else(|| A::Error::custom("unknown columns"))?;
                    let digest = listing.table.insert(TableDigest::default());
                    let pass_on = &mut |row: Lenient| digest.add(&places, &row);
                    map.next_value_seed(ForEach { shape: &table::ROW, pass_on })?;
                    found = Some("Table");
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let found = found.ok_or_else(|| A::Error::custom("neither items nor rows"))?;
        match kind {
            Some(kind) if kind != Lenient::Text(found.to_owned()) => {
                Err(A::Error::custom("the kind is neither PodList nor Table"))
            }
            _ => Ok(()),
        }
    }
}

/// The list's version, where it can stand in a query.
fn version(meta: &Lenient) -> Option<String> {
    let version = meta.text("resourceVersion").ok().flatten()?;
    let plain = version.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (plain && (1..=MAX_VERSION).contains(&version.len())).then(|| version.to_owned())
}

/// The pod. Its name goes to `name` as soon as it is known.
fn pod(
    item: &Lenient,
    own_name: Option<&str>,
    controller: &mut Option<Arc<str>>,
    name: &mut String,
) -> Result<Pod, Malformed> {
    item.text("metadata.name")?.unwrap_or_default().clone_into(name);
    let uid = Instance::new(item.required("metadata.uid")?);
    let created = timestamp(item, "metadata.creationTimestamp")?;
    let node = item.text("spec.nodeName")?.filter(|node| !node.is_empty());
    let node = node.map(NodeName::new).transpose();
    Ok(Pod {
        uid: uid.map_err(|_| Malformed::Value("metadata.uid"))?,
        has_own_name: own_name.is_some_and(|own_name| own_name == name),
        node: node.map_err(|_| Malformed::Value("spec.nodeName"))?,
        controller: controller_uid(item, controller)?,
        created: created.ok_or(Malformed::Missing("metadata.creationTimestamp"))?,
        deadline: timestamp(item, "metadata.deletionTimestamp")?,
        phase: match item.text("status.phase")? {
            None | Some("" | "Pending") => PodPhase::Pending,
            Some("Succeeded" | "Failed") => PodPhase::Ended,
            Some(_) => PodPhase::Running,
        },
        ready: is_ready(item)?,
        ips: addresses(item)?,
        // Without it, or with a malformed one, the peer is one all the same.
        host: item.text("status.hostIP")?.and_then(|text| text.parse().ok()),
    })
}

fn timestamp(item: &Lenient, path: &'static str) -> Result<Option<i64>, Malformed> {
    let text = item.text(path)?;
    text.map(|text| time::seconds(text).ok_or(Malformed::Value(path))).transpose()
}

/// The UID of the controller. Almost all pods of a list have the same one, so `last` shares it.
fn controller_uid(
    item: &Lenient,
    last: &mut Option<Arc<str>>,
) -> Result<Option<Arc<str>>, Malformed> {
    for owner in item.list("metadata.ownerReferences")? {
        if owner.flag("metadata.ownerReferences[].controller")? {
            const UID: &str = "metadata.ownerReferences[].uid";
            let uid = owner.required(UID)?;
            if uid.len() > MAX_INSTANCE {
                return Err(Malformed::Value(UID));
            }
            if last.as_deref() != Some(uid) {
                *last = Some(uid.into());
            }
            return Ok(last.clone());
        }
    }
    Ok(None)
}

fn is_ready(item: &Lenient) -> Result<bool, Malformed> {
    for condition in item.list("status.conditions")? {
        if condition.text("status.conditions[].type")? == Some("Ready") {
            return Ok(condition.text("status.conditions[].status")? == Some("True"));
        }
    }
    Ok(false)
}

/// All addresses of a pod, the primary one first, each once.
fn addresses(item: &Lenient) -> Result<Vec<IpAddr>, Malformed> {
    const NAME: &str = "status.podIPs";
    let mut texts = Vec::new();
    texts.extend(item.text("status.podIP")?.filter(|text| !text.is_empty()));
    for ip in item.list(NAME)? {
        texts.push(ip.required("status.podIPs[].ip")?);
    }
    let mut ips = Vec::new();
    for text in texts {
        let ip: IpAddr = text.parse().map_err(|_| Malformed::Value(NAME))?;
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips.truncate(MAX_POD_IPS);
    ips.shrink_to_fit();
    Ok(ips)
}

#[cfg(test)]
mod tests;
