//! Pods as the DaemonSet controller and the kubelet write them, from the few fields that a test sets.

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerState, ContainerStateRunning, ContainerStatus,
    EmptyDirVolumeSource, HTTPGetAction, HostIP, Pod, PodCondition, PodIP, PodSecurityContext,
    PodSpec, PodStatus, Probe, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
    SecurityContext, ServiceAccountTokenProjection, Toleration, Volume, VolumeMount,
    VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    FieldsV1, ManagedFieldsEntry, ObjectMeta, OwnerReference, Time,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use crate::manifest;

/// The agents' label, as in the manifests.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/name", "wylis");
/// The namespace of the manifests.
pub const NAMESPACE: &str = "wylis";
/// The UID of the DaemonSet that owns a [`TestPod`] by default.
pub const DAEMON_SET_UID: &str = "da000000-0000-4000-8000-000000000000";
/// The default creation time of a [`TestPod`]: 2026-01-01T00:00:00Z.
pub const CREATED: i64 = 1_767_225_600;

/// The fields of a pod that tests set; the rest is filled in.
#[derive(Debug, Clone)]
pub struct TestPod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// The UID of the owning DaemonSet; `None` for a pod without a controller.
    pub owner: Option<String>,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub created: i64,
    /// `metadata.deletionTimestamp`: the deadline of the deletion, in seconds since 1970.
    pub deleted: Option<i64>,
    /// `spec.nodeName`; `None` while unscheduled.
    pub node: Option<String>,
    /// `status.podIPs`, the first being `status.podIP`.
    pub ips: Vec<String>,
    /// `status.hostIP`.
    pub host_ip: String,
    /// `status.phase`.
    pub phase: String,
    /// The condition `Ready`.
    pub ready: bool,
}

impl TestPod {
    /// A running and ready pod of the DaemonSet on a node.
    ///
    /// Its UID is derived from the name: equal in two tables, different for two pods.
    #[must_use]
    pub fn new(name: &str, node: &str, ip: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: NAMESPACE.to_owned(),
            uid: uid_of(name),
            labels: BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())]),
            owner: Some(DAEMON_SET_UID.to_owned()),
            created: CREATED,
            deleted: None,
            node: Some(node.to_owned()),
            ips: vec![ip.to_owned()],
            host_ip: "192.0.2.1".to_owned(),
            phase: "Running".to_owned(),
            ready: true,
        }
    }

    /// The whole object at this resource version.
    #[must_use]
    pub fn object(&self, resource_version: u64) -> Pod {
        Pod {
            metadata: self.metadata(resource_version),
            spec: Some(self.spec()),
            status: Some(self.status()),
        }
    }

    /// Its cells in the API server's table, in the order of the columns.
    #[must_use]
    pub fn cells(&self) -> Vec<String> {
        let status = match self.phase.as_str() {
            _ if self.deleted.is_some() => "Terminating",
            "Succeeded" => "Completed",
            "Failed" => "Error",
            "Pending" if self.node.is_some() => "ContainerCreating",
            phase => phase,
        };
        // The column shows the container, not the pod's condition.
        let ready = if self.ready && self.phase == "Running" { "1/1" } else { "0/1" };
        let or_none = |text: Option<&String>| text.map_or("<none>", String::as_str).to_owned();
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX).saturating_sub(self.created);
        vec![
            self.name.clone(),
            ready.to_owned(),
            status.to_owned(),
            "0".to_owned(),
            format!("{age}s"),
            or_none(self.ips.first()),
            or_none(self.node.as_ref()),
            "<none>".to_owned(),
            "<none>".to_owned(),
        ]
    }

    fn metadata(&self, resource_version: u64) -> ObjectMeta {
        let owner = self.owner.as_ref().map(|uid| OwnerReference {
            api_version: "apps/v1".to_owned(),
            block_owner_deletion: Some(true),
            controller: Some(true),
            kind: "DaemonSet".to_owned(),
            name: "wylis".to_owned(),
            uid: uid.clone(),
        });
        let mut labels = self.labels.clone();
        labels.insert("controller-revision-hash".to_owned(), "6d9f8b7c55".to_owned());
        labels.insert("pod-template-generation".to_owned(), "1".to_owned());
        ObjectMeta {
            name: Some(self.name.clone()),
            generate_name: Some("wylis-".to_owned()),
            namespace: Some(self.namespace.clone()),
            uid: Some(self.uid.clone()),
            resource_version: Some(resource_version.to_string()),
            creation_timestamp: Some(time(self.created)),
            deletion_timestamp: self.deleted.map(time),
            deletion_grace_period_seconds: self.deleted.map(|_| grace()),
            labels: Some(labels),
            owner_references: owner.map(|owner| vec![owner]),
            managed_fields: Some(vec![
                managed("kube-controller-manager", None, self.created, controller_fields()),
                managed("kubelet", Some("status"), self.created + 2, kubelet_fields()),
            ]),
            ..ObjectMeta::default()
        }
    }

    fn spec(&self) -> PodSpec {
        PodSpec {
            node_name: self.node.clone(),
            service_account_name: Some("wylis".to_owned()),
            service_account: Some("wylis".to_owned()),
            priority_class_name: Some("system-node-critical".to_owned()),
            priority: Some(2_000_001_000),
            preemption_policy: Some("PreemptLowerPriority".to_owned()),
            dns_policy: Some("ClusterFirst".to_owned()),
            restart_policy: Some("Always".to_owned()),
            scheduler_name: Some("default-scheduler".to_owned()),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(grace()),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            tolerations: Some(tolerations()),
            volumes: Some(volumes()),
            containers: vec![container()],
            ..PodSpec::default()
        }
    }

    fn status(&self) -> PodStatus {
        let word = |yes: bool| if yes { "True" } else { "False" }.to_owned();
        let condition = |kind: &str, status: String| PodCondition {
            type_: kind.to_owned(),
            status,
            last_transition_time: Some(time(self.created + 2)),
            ..PodCondition::default()
        };
        let running = self.phase == "Running";
        PodStatus {
            phase: Some(self.phase.clone()),
            conditions: Some(vec![
                condition("PodReadyToStartContainers", word(running)),
                condition("Initialized", word(true)),
                condition("Ready", word(self.ready)),
                condition("ContainersReady", word(self.ready)),
                condition("PodScheduled", word(self.node.is_some())),
            ]),
            host_ip: Some(self.host_ip.clone()),
            host_ips: Some(vec![HostIP { ip: self.host_ip.clone() }]),
            pod_ip: self.ips.first().cloned(),
            pod_ips: (!self.ips.is_empty())
                .then(|| self.ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
            start_time: Some(time(self.created)),
            qos_class: Some("Burstable".to_owned()),
            container_statuses: Some(vec![self.container_status(running)]),
            ..PodStatus::default()
        }
    }

    fn container_status(&self, running: bool) -> ContainerStatus {
        let started = ContainerStateRunning { started_at: Some(time(self.created + 1)) };
        ContainerStatus {
            name: "wylis".to_owned(),
            image: "registry.example/wylis:1.0.0".to_owned(),
            image_id: format!("registry.example/wylis@sha256:{}", "0f".repeat(32)),
            container_id: running.then(|| format!("containerd://{}", "ab".repeat(32))),
            ready: self.ready,
            started: Some(running),
            restart_count: 0,
            state: Some(ContainerState {
                running: running.then_some(started),
                ..ContainerState::default()
            }),
            ..ContainerStatus::default()
        }
    }
}

/// A UUID derived from the name.
#[must_use]
pub fn uid_of(name: &str) -> String {
    // FNV-1a, twice with different starts: 128 bits without a crate.
    let hash = |start: u64| {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        name.bytes().fold(start, step)
    };
    let (high, low) = (hash(0xcbf2_9ce4_8422_2325), hash(0x9e37_79b9_7f4a_7c15));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

fn grace() -> i64 {
    i64::try_from(manifest::grace().as_secs()).expect("seconds")
}

fn time(seconds: i64) -> Time {
    Time(Timestamp::from_second(seconds).expect("a time within the calendar"))
}

fn managed(
    manager: &str,
    subresource: Option<&str>,
    at: i64,
    fields: serde_json::Value,
) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        api_version: Some("v1".to_owned()),
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        manager: Some(manager.to_owned()),
        operation: Some("Update".to_owned()),
        subresource: subresource.map(str::to_owned),
        time: Some(time(at)),
    }
}

/// Field names that would mislead a decoder that searches instead of parsing.
fn controller_fields() -> serde_json::Value {
    serde_json::json!({
        "f:metadata": {
            "f:generateName": {}, "f:labels": {".": {}, "f:app.kubernetes.io/name": {}},
            "f:ownerReferences": {".": {}, "k:{\"uid\":\"da000000-0000-4000-8000-000000000000\"}": {}}
        },
        "f:spec": {
            "f:affinity": {}, "f:automountServiceAccountToken": {},
            "f:containers": {"k:{\"name\":\"wylis\"}": {
                ".": {}, "f:env": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:livenessProbe": {},
                "f:name": {}, "f:ports": {}, "f:readinessProbe": {}, "f:resources": {},
                "f:securityContext": {}, "f:terminationMessagePath": {}, "f:volumeMounts": {}
            }},
            "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:priorityClassName": {},
            "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
            "f:serviceAccount": {}, "f:serviceAccountName": {},
            "f:terminationGracePeriodSeconds": {}, "f:tolerations": {}, "f:volumes": {}
        }
    })
}

fn kubelet_fields() -> serde_json::Value {
    serde_json::json!({
        "f:status": {
            "f:conditions": {
                "k:{\"type\":\"ContainersReady\"}": {".": {}, "f:status": {}, "f:type": {}},
                "k:{\"type\":\"Initialized\"}": {".": {}, "f:status": {}, "f:type": {}},
                "k:{\"type\":\"Ready\"}": {".": {}, "f:status": {}, "f:type": {}}
            },
            "f:containerStatuses": {}, "f:hostIP": {}, "f:hostIPs": {}, "f:phase": {},
            "f:podIP": {}, "f:podIPs": {".": {}, "k:{\"ip\":\"10.0.0.1\"}": {".": {}, "f:ip": {}}},
            "f:startTime": {}
        }
    })
}

/// The manifest's toleration, and those that the DaemonSet controller adds.
fn tolerations() -> Vec<Toleration> {
    let toleration = |key: Option<&str>, effect: Option<&str>| Toleration {
        key: key.map(str::to_owned),
        operator: Some("Exists".to_owned()),
        effect: effect.map(str::to_owned),
        ..Toleration::default()
    };
    let tainted = |name: &str, effect: &str| {
        toleration(Some(&format!("node.kubernetes.io/{name}")), Some(effect))
    };
    vec![
        toleration(None, None),
        tainted("not-ready", "NoExecute"),
        tainted("unreachable", "NoExecute"),
        tainted("disk-pressure", "NoSchedule"),
        tainted("memory-pressure", "NoSchedule"),
        tainted("pid-pressure", "NoSchedule"),
        tainted("unschedulable", "NoSchedule"),
    ]
}

fn volumes() -> Vec<Volume> {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            expiration_seconds: Some(3607),
            path: "token".to_owned(),
            ..ServiceAccountTokenProjection::default()
        }),
        ..VolumeProjection::default()
    };
    vec![
        Volume {
            name: "state".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
        Volume {
            name: "kube-api-access-x7k2p".to_owned(),
            projected: Some(ProjectedVolumeSource {
                default_mode: Some(420),
                default_user: None,
                sources: Some(vec![token]),
            }),
            ..Volume::default()
        },
    ]
}

fn container() -> Container {
    let quantity = |name: &str, value: &str| (name.to_owned(), Quantity(value.to_owned()));
    let route = |path: &str| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(9050),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        failure_threshold: Some(6),
        period_seconds: Some(10),
        success_threshold: Some(1),
        timeout_seconds: Some(5),
        ..Probe::default()
    };
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    Container {
        name: "wylis".to_owned(),
        image: Some("registry.example/wylis:1.0.0".to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: 9050,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(ResourceRequirements {
            limits: Some(BTreeMap::from([quantity("memory", "32Mi")])),
            requests: Some(BTreeMap::from([quantity("cpu", "10m"), quantity("memory", "8Mi")])),
            ..ResourceRequirements::default()
        }),
        liveness_probe: Some(route("/healthz")),
        readiness_probe: Some(route("/readyz")),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        volume_mounts: Some(vec![
            mount("state", "/var/lib/wylis"),
            mount("kube-api-access-x7k2p", "/var/run/secrets/kubernetes.io/serviceaccount"),
        ]),
        ..Container::default()
    }
}
