//! The rights of the agent's service account: list pods in its namespace, and nothing else.

use serde_json::json;
pub(crate) use wylis_harness::rights::ACCOUNT;
use wylis_harness::{TempDir, rights};

use crate::cluster::{Cluster, NAMESPACE};
use crate::proxy::Proxy;

#[test]
fn the_account_may_list_pods_in_its_namespace_and_nothing_else() {
    let Some(cluster) = Cluster::find() else { return };
    let pods = cluster.with_agents();
    println!("{}", cluster.kubectl(&["auth", "can-i", "--list", "-n", NAMESPACE, "--as", ACCOUNT]));
    let combinations = rights::assert_only_listing_pods_is_allowed(&Proxy::start(&cluster, &[]));
    println!("1 of {combinations} possible actions is allowed");

    let dir = TempDir::new("rights");
    let config = dir.path().join("thief.conf");
    let token = cluster.kubectl(&["-n", NAMESPACE, "create", "token", "wylis"]);
    let mut thief = cluster.json(&["config", "view", "--raw", "--minify", "--flatten"]);
    thief["users"][0]["user"] = json!({"token": token});
    std::fs::write(&config, thief.to_string()).unwrap();
    let thief = Proxy::start(&cluster, &[&format!("--kubeconfig={}", config.display())]);
    rights::assert_own_rules_allow_only_that_list(&thief);
    rights::assert_a_stolen_token_gets_only_that_list(&thief, &pods[0].name);
}
