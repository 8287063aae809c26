//! The cost of one refresh, by the API server's own metrics, at 3 and at 1,000 pods, for several ways to
//! list pods.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wylis_harness::http;
use wylis_harness::kube::{Api as _, JSON};
use wylis_harness::process::Metrics;

use crate::cluster::{Cluster, NAMESPACE};
use crate::proxy::Proxy;

/// The namespace of the 1,000 pods, apart from the agents'.
const CROWD: &str = "wylis-crowd";
const MANY: usize = 1000;
/// Requests of each kind, for a mean.
const TIMES: u32 = 20;
const LIMIT: Duration = Duration::from_secs(30);
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// Indices in [`WAYS`]: the list and the table that agents use.
const FULL: usize = 1;
const ROWS: usize = 4;
/// Name, query after the selector, Accept, Accept-Encoding.
const WAYS: [(&str, &str, &str, &str); 9] = [
    ("full list from etcd", "", "application/json", "identity"),
    ("full list, resourceVersion=0", "&resourceVersion=0", "application/json", "identity"),
    ("the same, gzip", "&resourceVersion=0", "application/json", "gzip"),
    ("protobuf", "&resourceVersion=0", "application/vnd.kubernetes.protobuf", "identity"),
    ("table without objects", "&resourceVersion=0&includeObject=None", TABLE, "identity"),
    ("the same, gzip", "&resourceVersion=0&includeObject=None", TABLE, "gzip"),
    ("table with metadata", "&resourceVersion=0&includeObject=Metadata", TABLE, "identity"),
    ("metadata alone", "&resourceVersion=0", PARTIAL, "identity"),
    ("metadata alone, gzip", "&resourceVersion=0", PARTIAL, "gzip"),
];

/// The server's metrics of pod lists: requests, seconds, bytes; and its CPU seconds.
fn counted(proxy: &Proxy) -> [f64; 4] {
    let metrics = Metrics::parse(&proxy.get("/metrics").text());
    let labels = ["resource=\"pods\"", "verb=\"LIST\"", "scope=\"namespace\""];
    let sum = |name| metrics.sum(name, &labels);
    [
        sum("apiserver_request_duration_seconds_count"),
        sum("apiserver_request_duration_seconds_sum"),
        sum("apiserver_response_sizes_sum"),
        metrics.sum("process_cpu_seconds_total", &[]),
    ]
}

/// A copy of an agent's pod with all fields of controller and kubelet, but without a node or an owner, and
/// its status.
fn copies(cluster: &Cluster) -> (Value, Value) {
    let list = cluster.json(&["-n", NAMESPACE, "get", "pods"]);
    let mut pod = list["items"][0].clone();
    let status = pod["status"].take();
    let metadata = &pod["metadata"];
    let metadata = json!({
        "labels": metadata["labels"], "annotations": metadata["annotations"], "namespace": CROWD,
    });
    let mut spec = pod["spec"].take();
    let fields = spec.as_object_mut().unwrap();
    // The scheduler and the controllers must ignore the copy.
    fields.remove("nodeName");
    fields.insert("schedulerName".to_owned(), "none".into());
    fields.insert("serviceAccountName".to_owned(), "default".into());
    fields.insert("serviceAccount".to_owned(), "default".into());
    for field in ["priorityClassName", "priority", "preemptionPolicy"] {
        fields.remove(field);
    }
    (json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}), status)
}

fn crowd(cluster: &Cluster, proxy: &Proxy) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CROWD}});
    proxy.create("/api/v1/namespaces", &namespace);
    cluster.wait(LIMIT, "the crowd has a service account", || {
        cluster.attempt(&["-n", CROWD, "get", "serviceaccount", "default"]).is_ok()
    });
    let (pod, status) = copies(cluster);
    let pods = format!("/api/v1/namespaces/{CROWD}/pods");
    let one = |number: usize| {
        let mut pod = pod.clone();
        pod["metadata"]["name"] = format!("wylis-{number:05}").into();
        let mut made = proxy.create(&format!("{pods}?fieldManager=kube-controller-manager"), &pod);
        made["status"] = status.clone();
        let ip = format!("10.{}.{}.7", number / 250, number % 250);
        made["status"]["podIP"] = ip.clone().into();
        made["status"]["podIPs"] = json!([{"ip": ip}]);
        let path = format!("{pods}/wylis-{number:05}/status?fieldManager=kubelet");
        proxy.done("PUT", &path, JSON, &made);
    };
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let one = &one;
            scope.spawn(move || (0..MANY).filter(|number| number % 4 == worker).for_each(one));
        }
    });
}

/// Requests each way, and prints its bytes and the server's cost.
fn measure(proxy: &Proxy, namespace: &str, pods: usize) -> Vec<usize> {
    let selector = "labelSelector=app.kubernetes.io%2Fname%3Dwylis";
    let mut sizes = Vec::new();
    for (name, query, accept, encoding) in WAYS {
        let path = format!("/api/v1/namespaces/{namespace}/pods?{selector}{query}");
        let headers = [("Accept", accept), ("Accept-Encoding", encoding)];
        let (before, begun) = (counted(proxy), Instant::now());
        let mut answer = None;
        for _ in 0..TIMES {
            answer = Some(http::get_with(proxy.address, &path, &headers, LIMIT).unwrap());
        }
        let wall = begun.elapsed() / TIMES;
        let after = counted(proxy);
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let times = f64::from(TIMES);
        let [count, seconds, bytes, cpu] = [0, 1, 2, 3].map(|at| after[at] - before[at]);
        println!(
            "{pods:5} pods, {name:28}: {:8} bytes{}; the server: {:6.1} ms, {:8.0} bytes a list, \
             CPU {:5.1} ms; here {:6.1} ms",
            answer.body.len(),
            answer.header("Content-Encoding").map_or(String::new(), |how| format!(" ({how})")),
            seconds / count * 1e3,
            bytes / count,
            cpu / times * 1e3,
            wall.as_secs_f64() * 1e3,
        );
        sizes.push(answer.body.len());
    }
    sizes
}

#[test]
fn one_refresh_costs_the_api_server_what_is_documented() {
    let Some(cluster) = Cluster::find() else { return };
    let pods = cluster.with_agents();
    let proxy = Proxy::start(&cluster, &[]);
    let few = measure(&proxy, NAMESPACE, pods.len());
    cluster.kubectl(&["delete", "namespace", CROWD, "--ignore-not-found", "--timeout=120s"]);
    crowd(&cluster, &proxy);
    let many = measure(&proxy, CROWD, MANY);
    cluster.kubectl(&["delete", "namespace", CROWD, "--wait=false"]);
    // What docs/sizing.md counts with: 8,780 bytes a pod, 136 a row, 3,150 for a table's head.
    let near = |figure: &str, measured: usize, counted: usize| {
        println!("{figure}: {measured} bytes, documented as {counted}");
        assert!(measured.abs_diff(counted) * 10 < counted, "{figure}: {measured}, not {counted}");
    };
    near("a pod", many[FULL] / MANY, 8780);
    let row = (many[ROWS] - few[ROWS]) / (MANY - pods.len());
    near("a row", row, 136);
    near("a table's head", few[ROWS] - pods.len() * row, 3150);
}

#[test]
fn agents_at_rest_read_rows_only() {
    let Some(cluster) = Cluster::find() else { return };
    let pods = cluster.with_agents();
    let proxy = Proxy::start(&cluster, &[]);
    let refreshes = || {
        let counter = ["result=\"success\""];
        let of = |pod| cluster.metrics(pod).sum("wylis_discovery_refreshes_total", &counter);
        pods.iter().map(of).sum::<f64>()
    };
    // Every agent's first refresh after the rollout, rows or list.
    let settled = refreshes();
    cluster.wait(LIMIT * 4, "every agent has listed", || {
        refreshes() >= settled + pods.len() as f64 * 2.0
    });
    let whole = 8780.0 * pods.len() as f64;
    // Every 20th refresh is a whole list, at about the same time in all agents of a rollout: the first
    // sample may contain it, the second cannot.
    let rows_alone = (0..2).any(|_| {
        let (begun, before) = (refreshes(), counted(&proxy));
        cluster
            .wait(LIMIT * 4, "each agent lists again", || refreshes() >= begun + pods.len() as f64);
        let (ended, after) = (refreshes(), counted(&proxy));
        let [lists, bytes] = [0, 2].map(|at| after[at] - before[at]);
        println!("{lists} lists for {} refreshes, {:.0} bytes each", ended - begun, bytes / lists);
        lists > 0.0 && bytes / lists < whole / 4.0
    });
    assert!(rows_alone, "whole lists of {whole} bytes");
}
