//! The rights of the agent's service account, as the server enforces them.

use wylis_harness::rights;

use crate::agents::{Agents, text};
use crate::plane::Plane;

#[test]
fn the_account_may_list_pods_in_its_namespace_and_nothing_else() {
    let Some(plane) = Plane::with_manifests() else { return };
    let combinations = rights::assert_only_listing_pods_is_allowed(&plane.admin);
    println!("1 of {combinations} possible actions is allowed");

    let agents = Agents::of(&plane, 1);
    let pod = &agents.pods[0];
    let thief = plane.with_token(&plane.token(&pod.object));
    rights::assert_own_rules_allow_only_that_list(&thief);
    rights::assert_a_stolen_token_gets_only_that_list(
        &thief,
        &text(&pod.object["metadata"]["name"]),
    );
}
