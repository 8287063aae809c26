//! Tokens that are no longer good, and those that replace them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wylis_harness::kube::{Api, JSON};
use wylis_harness::mesh::now;
use wylis_harness::{TempDir, wait_until};

use crate::agents::{Agents, Member};
use crate::plane::{NAMESPACE, Plane, documents};

const ACCOUNT: &str = "/api/v1/namespaces/wylis/serviceaccounts/wylis";

/// Waits until the agent's list is refused for its token; it goes on probing.
fn assert_told(agents: &Agents<'_>, member: &Member) {
    agents.wait("the token is refused", |_| member.unauthorized() >= 1.0);
    let said = member.agent.log();
    assert!(said.contains("401") || said.contains("nauthorized"), "{said}");
}

/// Gives a good token right after a refusal: there is no second one.
fn assert_followed(plane: &Plane, agents: &Agents<'_>, member: &Member) {
    let refused = member.unauthorized();
    agents.wait("one more refusal", |_| member.unauthorized() > refused);
    let (refused, lists, begun) = (member.unauthorized(), member.lists(), Instant::now());
    member.give(&plane.token(&member.pod));
    agents.wait("a list with the new token", |_| member.lists() > lists);
    println!("{}: a list {:.1?} after the new token", member.node, begun.elapsed());
    assert!((member.unauthorized() - refused).abs() < 0.5, "{}", agents.logs());
}

/// Every pair has more successes after a while, and no failure.
fn assert_probing_goes_on(agents: &Agents<'_>) {
    let successes = || agents.each("wylis_probes_total", &["result=\"success\""]);
    let before = successes();
    agents.wait("each agent has probed four times more", |_| {
        successes().iter().zip(&before).all(|(now, before)| *now >= before + 4.0)
    });
    assert_eq!(agents.unproven(), [""; 0]);
}

#[test]
fn an_expired_token_is_refused_and_its_successor_followed_at_once() {
    let Some(plane) = Plane::with_manifests() else { return };
    let agents = Agents::of(&plane, 2);
    let member = &agents.members[0];
    // The server makes allowance for a minute between its clock and others.
    let token = token_until(&plane, &member.pod, now() - 60 + 4);
    let holder = plane.as_holder_of(&token);
    let status = || holder.get(&format!("{NAMESPACE}/pods")).status;
    assert_eq!(status(), 200, "as good as the server's own");
    member.give(&token);
    let limit = Duration::from_secs(20);
    wait_until(limit, "the token has expired", || status() == 401);
    assert_told(&agents, member);
    assert_probing_goes_on(&agents);
    assert_followed(&plane, &agents, member);
}

#[test]
fn the_token_of_a_deleted_pod_is_refused_and_probing_goes_on() {
    let Some(plane) = Plane::with_manifests() else { return };
    let agents = Agents::of(&plane, 3);
    let (gone, others) = agents.members.split_last().unwrap();
    agents.delete_object(gone);
    assert_told(&agents, gone);
    agents.wait("the others have forgotten it", |_| {
        others.iter().all(|member| member.agent.peer(&gone.node).is_null())
    });
    let before = gone.agent.metrics().sum("wylis_probes_total", &["result=\"success\""]);
    agents.wait("it knows the others still, and probes them", |_| {
        let metrics = gone.agent.metrics();
        metrics.sum("wylis_peers", &[]) == 2.0
            && metrics.sum("wylis_probes_total", &["result=\"success\""]) >= before + 4.0
    });
    assert_eq!(agents.each("wylis_probes_total", &["result=\"failure\""]), [0.0; 3]);
}

#[test]
fn tokens_of_an_account_that_was_made_anew_are_refused_until_they_are_replaced() {
    let Some(plane) = Plane::with_manifests() else { return };
    let agents = Agents::of(&plane, 2);
    let account = plane.admin.read(ACCOUNT)["metadata"]["uid"].clone();
    plane.admin.done("DELETE", ACCOUNT, JSON, &Value::Null);
    for document in documents() {
        plane.apply(&document, "");
    }
    assert_ne!(plane.admin.read(ACCOUNT)["metadata"]["uid"], account);
    for member in &agents.members {
        assert_told(&agents, member);
    }
    assert_probing_goes_on(&agents);
    let (first, others) = agents.members.split_first().unwrap();
    for member in others {
        member.give(&plane.token(&member.pod));
    }
    assert_followed(&plane, &agents, first);
    let lists: Vec<f64> = others.iter().map(Member::lists).collect();
    agents.wait("the others have lists again", |_| {
        others.iter().zip(&lists).all(|(member, lists)| member.lists() > *lists)
    });
}

/// What the server would give for this pod, but that it gives none for less than ten minutes: signed with
/// its own key.
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
    // A sequence (30 length) of two integers (02 length bytes), each with a zero in front if need be.
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
