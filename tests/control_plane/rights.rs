//! The rights of the agent's service account, as the server enforces them.

use wylis_harness::rights;

use crate::agents::{Agents, text};
use crate::plane::Plane;

#[test]
fn the_account_may_list_pods_in_its_namespace_and_nothing_else() {
    let Some(plane) = Plane::with_manifests() else { return };
    let asked = rights::assert_one_of_all_questions_is_answered_with_yes(&plane.admin);
    println!("1 of {asked} possible actions is allowed");

    let agents = Agents::of(&plane, 1);
    let pod = &agents.pods[0];
    let thief = plane.with_token(&plane.token(&pod.object));
    rights::assert_the_rules_name_only_that_list(&thief);
    rights::assert_a_thief_gets_only_that_list(&thief, &text(&pod.object["metadata"]["name"]));
}
