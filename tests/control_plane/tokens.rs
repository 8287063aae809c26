//! Tokens that expire or are revoked, and their replacements.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wylis_harness::kube::{Api, JSON};
use wylis_harness::mesh::now;
use wylis_harness::{TempDir, wait_until};

use crate::agents::{AgentPod, Agents};
use crate::plane::{NAMESPACE, Plane, documents};

const ACCOUNT: &str = "/api/v1/namespaces/wylis/serviceaccounts/wylis";

/// Waits until the server refuses the agent's token.
fn assert_refused(agents: &Agents<'_>, pod: &AgentPod) {
    agents.wait("the token is refused", |_| pod.unauthorized() >= 1.0);
    let log = pod.agent.log();
    assert!(log.contains("401") || log.contains("nauthorized"), "{log}");
}

/// Replaces the token right after a refusal, and asserts that no second one follows.
fn assert_replaced(plane: &Plane, agents: &Agents<'_>, pod: &AgentPod) {
    let refused = pod.unauthorized();
    agents.wait("one more refusal", |_| pod.unauthorized() > refused);
    let (refused, lists, begun) = (pod.unauthorized(), pod.lists(), Instant::now());
    pod.set_token(&plane.token(&pod.object));
    agents.wait("a list with the new token", |_| pod.lists() > lists);
    println!("{}: a list {:.1?} after the new token", pod.node, begun.elapsed());
    assert!((pod.unauthorized() - refused).abs() < 0.5, "{}", agents.logs());
}

/// Waits for more successes of every pair, and asserts no failure.
fn assert_probing_continues(agents: &Agents<'_>) {
    let successes = || agents.each("wylis_probes_total", &["result=\"success\""]);
    let before = successes();
    agents.wait("four more probes of each agent", |_| {
        successes().iter().zip(&before).all(|(now, before)| *now >= before + 4.0)
    });
    assert_eq!(agents.unproven(), [""; 0]);
}

#[test]
fn an_expired_token_is_refused_and_its_replacement_used_at_once() {
    let Some(plane) = Plane::with_manifests() else { return };
    let agents = Agents::of(&plane, 2);
    let pod = &agents.pods[0];
    // The server tolerates 1 min of clock skew.
    let token = token_until(&plane, &pod.object, now() - 60 + 4);
    let holder = plane.with_token(&token);
    let status = || holder.get(&format!("{NAMESPACE}/pods")).status;
    assert_eq!(status(), 200, "the token is valid");
    pod.set_token(&token);
    let limit = Duration::from_secs(20);
    wait_until(limit, "the token has expired", || status() == 401);
    assert_refused(&agents, pod);
    assert_probing_continues(&agents);
    assert_replaced(&plane, &agents, pod);
}

#[test]
fn the_token_of_a_deleted_pod_is_refused_and_probing_continues() {
    let Some(plane) = Plane::with_manifests() else { return };
    let agents = Agents::of(&plane, 3);
    let (gone, others) = agents.pods.split_last().unwrap();
    agents.delete_object(gone);
    assert_refused(&agents, gone);
    agents.wait("the others dropped the pod", |_| {
        others.iter().all(|pod| pod.agent.peer(&gone.node).is_null())
    });
    let before = gone.agent.metrics().sum("wylis_probes_total", &["result=\"success\""]);
    agents.wait("it still probes the others", |_| {
        let metrics = gone.agent.metrics();
        metrics.sum("wylis_peers", &[]) == 2.0
            && metrics.sum("wylis_probes_total", &["result=\"success\""]) >= before + 4.0
    });
    assert_eq!(agents.each("wylis_probes_total", &["result=\"failure\""]), [0.0; 3]);
}

#[test]
fn tokens_of_a_recreated_account_are_refused_until_replaced() {
    let Some(plane) = Plane::with_manifests() else { return };
    let agents = Agents::of(&plane, 2);
    let account = plane.admin.read(ACCOUNT)["metadata"]["uid"].clone();
    plane.admin.done("DELETE", ACCOUNT, JSON, &Value::Null);
    for document in documents() {
        plane.apply(&document, "");
    }
    assert_ne!(plane.admin.read(ACCOUNT)["metadata"]["uid"], account);
    for pod in &agents.pods {
        assert_refused(&agents, pod);
    }
    assert_probing_continues(&agents);
    let (first, others) = agents.pods.split_first().unwrap();
    for pod in others {
        pod.set_token(&plane.token(&pod.object));
    }
    assert_replaced(&plane, &agents, first);
    let lists: Vec<f64> = others.iter().map(AgentPod::lists).collect();
    agents.wait("the others have new lists", |_| {
        others.iter().zip(&lists).all(|(pod, lists)| pod.lists() > *lists)
    });
}

/// A token for the pod, signed with the server's key. The server itself issues none for less than 10 min.
fn token_until(plane: &Plane, pod: &Value, end: i64) -> String {
    let account = plane.admin.read(ACCOUNT);
    let named = |object: &Value| {
        let metadata = &object["metadata"];
        json!({"name": metadata["name"], "uid": metadata["uid"]})
    };
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let claims = json!({
        "iss": issuer, "aud": [issuer], "sub": "system:serviceaccount:wylis:wylis",
        "iat": end - 600, "nbf": end - 600, "exp": end,
        "kubernetes.io": {
            "namespace": "wylis", "pod": named(pod), "serviceaccount": named(&account),
        },
    });
    let parts = [json!({"alg": "ES256"}), claims].map(|part| base64(part.to_string().as_bytes()));
    let text = parts.join(".");
    format!("{text}.{}", base64(&signature(plane, &text)))
}

/// RFC 7518 3.4: the two numbers of the signature, 32 bytes each.
fn signature(plane: &Plane, text: &str) -> Vec<u8> {
    let dir = TempDir::new("token");
    let file = dir.path().join("text");
    std::fs::write(&file, text).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-sign"]).arg(plane.token_key()).arg(&file);
    let signed = openssl.stderr(Stdio::inherit()).output().unwrap().stdout;
    // DER: a sequence (30 length) of two integers (02 length bytes), perhaps with a leading zero.
    let first = usize::from(signed[3]);
    let numbers = [&signed[4..4 + first], &signed[6 + first..]];
    let padded = numbers.map(|number| {
        let mut all = vec![0; 32];
        all.extend(number);
        all.split_off(all.len() - 32)
    });
    padded.concat()
}

/// RFC 4648 5, without padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0, |word, byte| word << 8 | usize::from(*byte));
        let word = word << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            text.push(char::from(LETTERS[word >> (18 - 6 * at) & 63]));
        }
    }
    text
}
