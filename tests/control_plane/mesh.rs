//! Agents that find each other through a real API server.

use serde_json::Value;
use wylis_harness::kube::Api as _;

use crate::agents::{Agents, text};
use crate::plane::Plane;

#[test]
fn agents_find_each_other_by_their_pods_and_probe_with_success() {
    let Some(plane) = Plane::with_manifests() else { return };
    let asked = plane.requests().len();
    let agents = Agents::of(&plane, 3);
    let served = || plane.counted("apiserver_cache_list_total", &["resource=\"pods\""]);
    let stored = || plane.counted("apiserver_storage_list_total", &["resource=\"pods\""]);
    let total = || agents.pods.iter().map(crate::agents::AgentPod::lists).sum::<f64>();
    agents.wait("each agent has a list newer than the last ready pod", |agents| {
        agents.pods.iter().all(|pod| pod.lists() >= 3.0)
    });
    let (cached, from_etcd, before, rest) = (served(), stored(), total(), plane.requests().len());
    agents.wait("four more lists for each agent", |agents| {
        agents.pods.iter().all(|pod| pod.lists() >= 7.0) && total() >= before + 12.0
    });
    let lists = total() - before;
    // The server checks its own cache every 5 min.
    let (cached, from_etcd) = (served() - cached, stored() - from_etcd);
    println!("{lists} lists: {cached} from the server's cache, {from_etcd} from etcd");
    assert!(cached >= lists && from_etcd <= 1.0);
    assert_eq!(agents.each("wylis_discovery_failures_total", &[]), [0.0; 3], "{}", agents.logs());
    assert_eq!(agents.each("wylis_peers", &[]), [2.0; 3]);
    assert_eq!(agents.unproven(), [""; 0]);

    // Nothing changed: agents read table rows only, and no pods.
    let at_rest = plane.requests().split_off(rest);
    let is_for_rows = |event: &&Value| text(&event["requestURI"]).contains("includeObject=None");
    let rows = at_rest.iter().filter(is_for_rows).count();
    println!("{rows} of {} requests at rest are for rows", at_rest.len());
    assert!(rows >= 12 && rows == at_rest.len(), "{at_rest:#?}");

    // The audit log: one kind of request, first for any version, then for the last version seen or newer.
    let events = plane.requests().split_off(asked);
    for pod in &agents.pods {
        let name = text(&pod.object["metadata"]["name"]);
        let own = events.iter().filter(|event| {
            event["user"]["extra"]["authentication.kubernetes.io/pod-name"][0] == name
        });
        let (mut first, mut uris) = (true, 0);
        for event in own {
            assert_eq!(event["verb"], "list", "{event}");
            assert_eq!(event["responseStatus"]["code"], 200, "{event}");
            let uri = text(&event["requestURI"]);
            assert!(uri.starts_with("/api/v1/namespaces/wylis/pods?labelSelector="), "{uri}");
            let version = uri.split("resourceVersion=").nth(1).unwrap_or_default();
            assert_eq!(first, version.split('&').next() == Some("0"), "{uri}");
            assert_eq!(!first, uri.contains("resourceVersionMatch=NotOlderThan"), "{uri}");
            (first, uris) = (false, uris + 1);
        }
        assert!(uris >= 5, "{name} sent {uris} requests");
    }
    println!("the server serves {}", plane.admin.read("/version")["gitVersion"]);
}
