//! The fake API server's pods: editable while it runs, and shared by several servers if a test needs them.
//! Listed as objects, or as the rows of a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pod::TestPod;

/// The columns of a real API server (1.34); their descriptions are most of a small answer.
const COLUMNS: &str = include_str!("columns.json");
/// The first resource version of a table; etcd never starts at 0 for a pod.
const FIRST_VERSION: u64 = 1000;

/// A shared table of pods. Clones are the same table.
#[derive(Debug, Clone, Default)]
pub struct PodTable(Arc<Mutex<Pods>>);

#[derive(Debug)]
struct Pods {
    version: u64,
    /// In the order of etcd's keys: namespace, name.
    entries: BTreeMap<(String, String), Entry>,
}

#[derive(Debug)]
struct Entry {
    labels: BTreeMap<String, String>,
    /// `None` for an item that is not a proper pod.
    pod: Option<TestPod>,
    /// The JSON, rendered at each edit rather than at each list.
    text: String,
}

impl Default for Pods {
    fn default() -> Self {
        Self { version: FIRST_VERSION, entries: BTreeMap::new() }
    }
}

impl Pods {
    fn put(&mut self, pod: TestPod) {
        self.version += 1;
        let text = render(&pod, self.version);
        let entry = Entry { labels: pod.labels.clone(), text, pod: Some(pod.clone()) };
        self.entries.insert((pod.namespace, pod.name), entry);
    }

    /// A list of `kind` that starts with `begin`, with `text` of each selected entry.
    fn answer(
        &self,
        kind: &str,
        begin: &str,
        namespace: &str,
        selector: &str,
        text: impl Fn(&str, &Entry) -> String,
    ) -> Listing {
        let version = self.version;
        let mut body = format!(
            "{{\"kind\":\"{kind}\",\"metadata\":{{\"resourceVersion\":\"{version}\"}},{begin}"
        );
        let found = self
            .entries
            .iter()
            .filter(|((known, _), entry)| known == namespace && matches(selector, &entry.labels));
        for (number, ((_, name), entry)) in found.enumerate() {
            let comma = if number == 0 { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(body, "{comma}{}", text(name, entry));
        }
        body.push_str("]}\n");
        Listing { version, body }
    }
}

/// The cells of an object with no known field but its name.
fn bare_cells(name: &str) -> Vec<String> {
    [name, "0/0", "Unknown", "0", "<unknown>", "<none>", "<none>", "<none>", "<none>"]
        .map(str::to_owned)
        .to_vec()
}

/// The answer to a list request.
#[derive(Debug, Clone)]
pub struct Listing {
    /// `metadata.resourceVersion` of the list.
    pub version: u64,
    /// The body.
    pub body: String,
}

impl PodTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pod, or replaces the one with its namespace and name.
    pub fn put(&self, pod: TestPod) {
        self.lock().put(pod);
    }

    /// Adds an item of any form, with labels for selectors.
    pub fn put_raw(&self, namespace: &str, name: &str, labels: &[(&str, &str)], text: &str) {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let entry = Entry { labels: labels.collect(), pod: None, text: text.to_owned() };
        let mut pods = self.lock();
        pods.version += 1;
        pods.entries.insert((namespace.to_owned(), name.to_owned()), entry);
    }

    /// Changes a pod in place.
    ///
    /// # Panics
    /// When there is no such pod.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut TestPod)) {
        // One lock for the whole edit: no list may lack the pod.
        let mut pods = self.lock();
        let mut found = pods.entries.values().filter_map(|entry| entry.pod.as_ref());
        let found = found.find(|pod| pod.name == name).cloned();
        let mut pod = found.unwrap_or_else(|| panic!("no pod {name}"));
        pods.entries.remove(&(pod.namespace.clone(), pod.name.clone()));
        change(&mut pod);
        pods.put(pod);
    }

    /// Sets the condition `Ready`.
    pub fn set_ready(&self, name: &str, ready: bool) {
        self.edit(name, |pod| pod.ready = ready);
    }

    /// Marks a pod as terminating, with this deadline in seconds since 1970.
    pub fn terminate(&self, name: &str, deadline: i64) {
        self.edit(name, |pod| pod.deleted = Some(deadline));
    }

    /// Removes all items with this name.
    pub fn remove(&self, name: &str) {
        let mut pods = self.lock();
        pods.version += 1;
        pods.entries.retain(|(_, known), _| known != name);
    }

    /// Removes everything.
    pub fn clear(&self) {
        let mut pods = self.lock();
        pods.version += 1;
        pods.entries.clear();
    }

    /// The resource version of the last edit.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Sets the resource version, also to a lower one: a restored etcd, or a server with a stale cache.
    pub fn set_version(&self, version: u64) {
        self.lock().version = version;
    }

    /// The number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items of a namespace that match a label selector.
    #[must_use]
    pub fn list(&self, namespace: &str, selector: &str) -> Listing {
        self.lock().answer(
            "PodList\",\"apiVersion\":\"v1",
            "\"items\":[",
            namespace,
            selector,
            |_, entry| entry.text.clone(),
        )
    }

    /// The same as a `Table` without objects (`includeObject=None`).
    #[must_use]
    pub fn rows(&self, namespace: &str, selector: &str) -> Listing {
        let columns = format!("\"columnDefinitions\":{COLUMNS},\"rows\":[");
        let kind = "Table\",\"apiVersion\":\"meta.k8s.io/v1";
        self.lock().answer(kind, &columns, namespace, selector, |name, entry| {
            let cells = entry.pod.as_ref().map_or_else(|| bare_cells(name), TestPod::cells);
            serde_json::json!({"cells": cells, "object": null}).to_string()
        })
    }

    fn lock(&self) -> MutexGuard<'_, Pods> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Items of a list carry neither `kind` nor `apiVersion`; the typed object adds both.
fn render(pod: &TestPod, version: u64) -> String {
    let mut value = serde_json::to_value(pod.object(version)).expect("a pod is JSON");
    if let Some(object) = value.as_object_mut() {
        object.remove("kind");
        object.remove("apiVersion");
    }
    value.to_string()
}

/// Equality-based and set-based selectors, as in the API server: `a=b`, `a==b`, `a!=b`, `a`,
/// `!a`, `a in (b,c)`, `a notin (b,c)`, joined by commas.
fn matches(selector: &str, labels: &BTreeMap<String, String>) -> bool {
    requirements(selector).into_iter().all(|requirement| {
        let requirement = requirement.trim();
        let label = |name: &str| labels.get(name.trim()).map(String::as_str);
        let among = |list: &str, value: Option<&str>| {
            let list = list.trim().trim_start_matches('(').trim_end_matches(')');
            value.is_some_and(|value| list.split(',').any(|known| known.trim() == value))
        };
        if requirement.is_empty() {
            true
        } else if let Some((name, list)) = requirement.split_once(" notin ") {
            !among(list, label(name))
        } else if let Some((name, list)) = requirement.split_once(" in ") {
            among(list, label(name))
        } else if let Some((name, value)) = requirement.split_once("!=") {
            label(name) != Some(value.trim())
        } else if let Some((name, value)) = requirement.split_once('=') {
            label(name) == Some(value.trim_start_matches('=').trim())
        } else if let Some(name) = requirement.strip_prefix('!') {
            label(name).is_none()
        } else {
            label(requirement).is_some()
        }
    })
}

/// Splits at the commas outside parentheses.
fn requirements(selector: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    selector
        .split(move |c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_of_all_forms_are_matched() {
        let labels = |list: &[(&str, &str)]| {
            list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<BTreeMap<_, _>>()
        };
        let pod = labels(&[("app", "wylis"), ("tier", "node")]);
        for yes in ["", "app=wylis", "app==wylis,tier", "app in (a, wylis),tier=node", "!other"] {
            assert!(matches(yes, &pod), "{yes}");
        }
        for no in ["app=other", "app!=wylis", "!tier", "tier notin (node)", "app in (a,b)"] {
            assert!(!matches(no, &pod), "{no}");
        }
    }

    #[test]
    fn a_pod_has_the_size_and_shape_of_a_real_one() {
        let table = PodTable::new();
        table.put(TestPod::new("wylis-a", "node-a", "10.0.0.1"));
        let listing = table.list("wylis", "app.kubernetes.io/name=wylis");
        let value: serde_json::Value = serde_json::from_str(&listing.body).unwrap();
        assert_eq!(value["metadata"]["resourceVersion"], listing.version.to_string());
        let item = &value["items"][0];
        assert_eq!(item["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(item["metadata"]["ownerReferences"][0]["controller"], true);
        assert_eq!(item["status"]["podIPs"][0]["ip"], "10.0.0.1");
        assert!(item.get("kind").is_none());
        assert!((4_000..9_000).contains(&listing.body.len()), "{}", listing.body.len());
    }

    #[test]
    fn a_row_has_kubectls_columns() {
        let table = PodTable::new();
        table.put(TestPod::new("wylis-a", "node-a", "10.0.0.1"));
        let row = || {
            let body = table.rows("wylis", "app.kubernetes.io/name=wylis").body;
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (&value["kind"], &value["rows"][0]["object"]),
                (&"Table".into(), &().into())
            );
            let columns = value["columnDefinitions"].as_array().unwrap().iter();
            let cells = value["rows"][0]["cells"].as_array().unwrap().clone();
            let named: BTreeMap<String, serde_json::Value> = columns
                .map(|column| column["name"].as_str().unwrap().to_owned())
                .zip(cells)
                .collect();
            ["Name", "Ready", "Status", "IP", "Node"]
                .map(|name| named[name].as_str().unwrap().to_owned())
        };
        assert_eq!(row(), ["wylis-a", "1/1", "Running", "10.0.0.1", "node-a"]);
        table.edit("wylis-a", |pod| (pod.ready, pod.phase) = (false, "Pending".to_owned()));
        table.edit("wylis-a", |pod| (pod.ips, pod.node) = (Vec::new(), None));
        assert_eq!(row(), ["wylis-a", "0/1", "Pending", "<none>", "<none>"]);
        table.terminate("wylis-a", 1_900_000_000);
        assert_eq!(row()[2], "Terminating");
    }
}
