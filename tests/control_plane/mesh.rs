//! Agents that know each other from the real server alone.

use serde_json::Value;
use wylis_harness::kube::Api as _;

use crate::agents::{Agents, text};
use crate::plane::Plane;

#[test]
fn agents_list_their_pods_find_each_other_and_probe_each_other_with_success() {
    let Some(plane) = Plane::with_manifests() else { return };
    let asked = plane.asked().len();
    let agents = Agents::of(&plane, 3);
    let served = || plane.counted("apiserver_cache_list_total", &["resource=\"pods\""]);
    let stored = || plane.counted("apiserver_storage_list_total", &["resource=\"pods\""]);
    let total = || agents.members.iter().map(crate::agents::Member::lists).sum::<f64>();
    agents.wait("each has a list since the last pod became ready", |agents| {
        agents.members.iter().all(|member| member.lists() >= 3.0)
    });
    let (cached, from_etcd, before, rest) = (served(), stored(), total(), plane.asked().len());
    agents.wait("four more lists of each", |agents| {
        agents.members.iter().all(|member| member.lists() >= 7.0) && total() >= before + 12.0
    });
    let lists = total() - before;
    // The server looks after its own cache once in five minutes.
    let (cached, from_etcd) = (served() - cached, stored() - from_etcd);
    println!("{lists} lists: {cached} from the server's cache, {from_etcd} from etcd");
    assert!(cached >= lists && from_etcd <= 1.0);
    assert_eq!(agents.each("wylis_discovery_failures_total", &[]), [0.0; 3], "{}", agents.logs());
    assert_eq!(agents.each("wylis_peers", &[]), [2.0; 3]);
    assert_eq!(agents.unproven(), [""; 0]);

    // Nothing has changed: the rows said so, and no pod was read.
    let at_rest = plane.asked().split_off(rest);
    let of_rows = |event: &&Value| text(&event["requestURI"]).contains("includeObject=None");
    let rows = at_rest.iter().filter(of_rows).count();
    println!("{rows} of {} requests at rest are for rows", at_rest.len());
    assert!(rows >= 12 && rows == at_rest.len(), "{at_rest:#?}");

    // What the server saw of them: one kind of request, first of any version, then of the last seen.
    let events = plane.asked().split_off(asked);
    for member in &agents.members {
        let pod = text(&member.pod["metadata"]["name"]);
        let own = events.iter().filter(|event| {
            event["user"]["extra"]["authentication.kubernetes.io/pod-name"][0] == pod
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
        assert!(uris >= 5, "{pod} asked {uris} times");
    }
    println!("the server serves {}", plane.admin.read("/version")["gitVersion"]);
}
