//! Tests of the streaming decoder.

use proptest::prelude::*;
use serde_json::{Value, json};
use wylis_harness::bounds::worst_case;

use super::*;

fn item(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "wylis", "uid": format!("uid-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": null,
            "labels": {"a": "b"},
            "ownerReferences": [
                {"kind": "Other", "uid": "x"},
                {"kind": "DaemonSet", "uid": "ds", "controller": true},
            ],
            "managedFields": [{"fieldsV1": {"f:status": {"f:podIP": {}}}}],
        },
        "spec": {"nodeName": format!("node-{name}"), "containers": [{"name": "wylis"}]},
        "status": {
            "phase": "Running", "hostIP": "192.0.2.2", "podIP": "10.0.0.2",
            "podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}],
            "conditions": [
                {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"},
            ],
        },
    })
}

fn list(items: &[Value]) -> String {
    json!({
        "kind": "PodList", "apiVersion": "v1",
        "metadata": {"resourceVersion": "12345"}, "items": items,
    })
    .to_string()
}

fn decoded(text: &str) -> Listing {
    let (listing, result) = decode(text.as_bytes(), Some("a"));
    result.unwrap();
    listing
}

#[test]
fn used_fields_are_decoded() {
    let mut terminating = item("b");
    terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
    terminating["status"]["conditions"][1]["status"] = json!("False");
    let listing = decoded(&list(&[item("a"), terminating]));
    assert_eq!((listing.malformed, listing.version.as_deref()), (0, Some("12345")));
    let [a, b] = &listing.pods[..] else { panic!("{listing:?}") };
    assert_eq!((a.uid.as_str(), a.has_own_name, a.ready), ("uid-a", true, true));
    assert_eq!(a.node.as_ref().unwrap().as_str(), "node-a");
    assert_eq!(a.controller.as_deref(), Some("ds"));
    assert!(Arc::ptr_eq(a.controller.as_ref().unwrap(), b.controller.as_ref().unwrap()));
    assert_eq!(a.created, 1_767_225_600);
    assert_eq!((b.deadline, b.has_own_name, b.ready), (Some(1_767_225_660), false, false));
    let ips: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    assert_eq!((&a.ips, a.host), (&ips, Some("192.0.2.2".parse().unwrap())));
}

#[test]
fn a_new_pod_without_status_is_not_malformed() {
    let young = json!({
        "metadata": {"name": "y", "uid": "y", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {}, "status": {},
    });
    let listing = decoded(&list(&[young]));
    let pod = &listing.pods[0];
    assert_eq!((pod.phase, pod.node.is_none(), pod.ips.len()), (PodPhase::Pending, true, 0));
    assert_eq!(pod.controller, None);
}

#[test]
fn a_malformed_item_costs_only_itself() {
    let broken: [(&str, Value); 20] = [
        ("/metadata", json!("text")),
        ("/metadata", Value::Null),
        ("/metadata/uid", json!(17)),
        ("/metadata/uid", json!("a b")),
        ("/metadata/uid", Value::Null),
        ("/metadata/name", json!(["x"])),
        ("/metadata/creationTimestamp", json!("yesterday")),
        ("/metadata/deletionTimestamp", json!(true)),
        ("/metadata/ownerReferences", json!({"uid": "ds"})),
        ("/metadata/ownerReferences/1", json!(3.5)),
        ("/spec", json!([])),
        ("/spec/nodeName", json!("two words")),
        ("/status/phase", json!({"x": {"y": [1, 2]}})),
        ("/status/hostIP", json!(["192.0.2.2"])),
        ("/status/podIP", json!("10.0.0.256")),
        ("/status/podIPs/1/ip", json!("10.0.0")),
        ("/status/podIPs/0", Value::Null),
        ("/status/podIPs/0", json!(["10.0.0.2"])),
        ("/status/conditions/0", Value::Null),
        ("/status/conditions/1", json!("Ready")),
    ];
    for (pointer, value) in broken {
        let mut bad = item("bad");
        *bad.pointer_mut(pointer).unwrap() = value.clone();
        let listing = decoded(&list(&[item("a"), bad, item("c")]));
        assert_eq!(listing.malformed, 1, "{pointer} {value}");
        assert_eq!(listing.examples.len(), 1);
        let uids: Vec<_> = listing.pods.iter().map(|pod| pod.uid.as_str()).collect();
        assert_eq!(uids, ["uid-a", "uid-c"], "{pointer} {value}");
    }
    for whole in [json!(null), json!(1), json!("pod"), json!([[]]), json!({})] {
        assert_eq!(decoded(&list(&[whole, item("c")])).malformed, 1);
    }
}

#[test]
fn without_the_address_of_its_node_a_pod_is_still_one() {
    for host in [json!(""), json!("node-2"), json!("192.0.2.256"), Value::Null] {
        let mut pod = item("a");
        pod["status"]["hostIP"] = host;
        let listing = decoded(&list(&[pod]));
        assert_eq!((listing.malformed, listing.pods[0].host), (0, None));
    }
}

#[test]
fn a_malformed_name_is_quoted() {
    let mut bad = item("evil\n\"name\u{1b}[31m");
    bad["metadata"]["uid"] = json!(1);
    let examples = decoded(&list(&[bad])).examples;
    assert_eq!(examples, ["\"evil\\n\\\"name\\u{1b}[31m\" (metadata.uid has the wrong type)"]);
    let mut bad = item("bad");
    bad["status"]["conditions"][0]["type"] = json!(7);
    let examples = decoded(&list(&[bad])).examples;
    assert_eq!(examples, ["\"bad\" (status.conditions[].type has the wrong type)"]);
}

#[test]
fn a_few_malformed_items_are_shown_and_all_are_counted() {
    let listing = decoded(&list(&vec![json!("text"); 10]));
    assert_eq!((listing.malformed, listing.examples.len()), (10, MAX_EXAMPLES));
}

#[test]
fn a_long_list_in_an_item_is_cut() {
    let mut long = item("a");
    let ips: Vec<Value> = (0..200).map(|n| json!({"ip": format!("10.0.1.{n}")})).collect();
    long["status"]["podIPs"] = json!(ips);
    let listing = decoded(&list(&[long, item("b")]));
    let kept = listing.pods[0].ips.len();
    assert_eq!((kept, listing.pods[1].ips.len()), (4, 2));
    assert!(f64::from(u32::try_from(kept).unwrap()) <= worst_case("MAX_POD_IPS"));
}

#[test]
fn a_long_text_costs_only_its_item() {
    for (pointer, length) in [
        ("/metadata/name", 257),
        ("/metadata/uid", 64),
        ("/metadata/ownerReferences/1/uid", 64),
        ("/spec/nodeName", 254),
        ("/status/phase", 257),
        ("/status/conditions/0/type", 257),
    ] {
        let mut long = item("long");
        *long.pointer_mut(pointer).unwrap() = json!("x".repeat(length));
        let listing = decoded(&list(&[item("a"), long, item("c")]));
        assert_eq!((listing.malformed, listing.pods.len()), (1, 2), "{pointer}");
        assert!(listing.examples[0].contains("is malformed"), "{:?}", listing.examples);
    }
}

#[test]
fn other_documents_are_refused() {
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "<html>",
        "{\"items\":{}}",
        "{\"items\":7}",
        "{\"kind\":\"Status\",\"items\":[]}",
        "{\"items\":[{\"spec\":{\"nodeName\":\"a\",\"nodeName\":\"b\"}}]}",
        "{\"kind\":\"PodList\",\"items\":[]} x",
        "{\"kind\":\"PodList\",\"items\":[",
    ] {
        let (_, result) = decode(text.as_bytes(), None);
        assert!(result.is_err(), "{text}");
    }
    let (listing, result) = decode(&b"{\"kind\":\"PodList\",\"items\":null}"[..], None);
    assert!(result.is_ok() && listing.pods.is_empty());
}

#[test]
fn a_version_unfit_for_a_query_is_dropped() {
    for (version, is_used) in [("1", true), ("", false), ("1&x=y", false), (&"9".repeat(65), false)]
    {
        let text = json!({"metadata": {"resourceVersion": version}, "items": []}).to_string();
        assert_eq!(decoded(&text).version.is_some(), is_used, "{version}");
    }
}

#[test]
fn too_many_items_end_decoding() {
    let items = std::iter::repeat_n("0", MAX_PODS + 1).collect::<Vec<_>>().join(",");
    let (listing, result) = decode(format!("{{\"items\":[{items}]}}").as_bytes(), None);
    assert!(result.is_err() && listing.overflows());
}

proptest! {
    /// Any value in an item costs at most that item.
    #[test]
    fn no_value_costs_the_list(text in "[a-z\\\\\"\u{0}-\u{20}]{0,8}", number: f64, place in 0_usize..12) {
        let values = [json!(text), json!(number), json!([text, {"k": number}]), json!({"uid": {}})];
        let paths = ["/metadata", "/spec", "/status"];
        let mut bad = item("bad");
        let pointer = paths[place % paths.len()];
        *bad.pointer_mut(pointer).unwrap() = values[place / paths.len()].clone();
        let listing = decoded(&list(&[item("a"), bad, item("c")]));
        prop_assert!(listing.pods.len() + listing.malformed == 3 && listing.pods.len() >= 2);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes[..], None);
    }
}

/// The digest of rows with the cells Name, Ready, Status, Age, IP and Node.
fn digest(rows: &[[&str; 6]]) -> TableDigest {
    let columns =
        ["Name", "Ready", "Status", "Age", "IP", "Node"].map(|name| json!({"name": name}));
    let rows: Vec<Value> =
        rows.iter().map(|cells| json!({"cells": cells, "object": null})).collect();
    let text = json!({"kind": "Table", "columnDefinitions": columns, "rows": rows}).to_string();
    // serde_json sorts the keys, so the columns come first, as they do from an API server.
    decoded(&text).table.unwrap()
}

#[test]
fn order_and_age_do_not_change_the_digest() {
    let a = ["a", "1/1", "Running", "7s", "10.0.0.1", "n1"];
    let b = ["b", "1/1", "Running", "7s", "10.0.0.2", "n2"];
    let older = ["a", "1/1", "Running", "8m", "10.0.0.1", "n1"];
    assert_eq!(digest(&[a, b]), digest(&[b, older]));
    assert_ne!(digest(&[a, b]), digest(&[a]));
    assert_ne!(digest(&[a, a]), digest(&[b, b]));
    for (place, value) in [(0, "c"), (1, "0/1"), (2, "Terminating"), (4, "10.0.0.3"), (5, "n3")] {
        let mut changed = b;
        changed[place] = value;
        assert_ne!(digest(&[a, b]), digest(&[a, changed]), "{value}");
    }
    // A value in another column is a change.
    let swapped = ["a", "1/1", "Running", "7s", "n1", "10.0.0.1"];
    assert_ne!(digest(&[a]), digest(&[swapped]));
}

#[test]
fn an_empty_table_has_a_digest() {
    let text = json!({"kind": "Table", "columnDefinitions": [], "rows": []}).to_string();
    assert!(decode(text.as_bytes(), None).1.is_err(), "unknown columns");
    assert_eq!(digest(&[]), TableDigest::default());
}
