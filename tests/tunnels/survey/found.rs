//! Found gaps against true ones.

use std::time::Duration;

use wylis::survey::{Coldness, Mark};

use super::paths::{ColdPath, Toll};
use super::run::{FAST, Survey};
use crate::mesh::TunnelMesh;
use crate::network::{Overlay, Topology};
use crate::workload::Link;

/// How far a found gap may be from the true one.
const PRECISION: f64 = 0.1;

fn within(found: Duration, truth: Duration, share: f64) -> bool {
    found.abs_diff(truth) <= truth.mul_f64(share)
}

/// Whether a trial fared as a path with this toll says. A lost answer is late: its request came through.
fn is_toll(toll: Toll, mark: Mark) -> bool {
    let slow = |time: Duration| time >= Duration::from_millis(900);
    match (toll, mark) {
        (Toll::Lost, Mark::Lost(Some(time)) | Mark::Late(time)) => slow(time),
        (Toll::Barred, Mark::Lost(time)) => time.is_none_or(slow),
        (Toll::Held(true_time), Mark::Late(time)) => within(time, true_time, 0.2),
        _ => false,
    }
}

/// Surveys hosts 1 and 2 from host 1 with these gaps, in milliseconds.
fn finds(path: &ColdPath, gaps: &[u64]) {
    let Some(mesh) = TunnelMesh::new(path.topology, FAST) else { return };
    let laid = path.lay(&mesh.network);
    let survey = Survey::start(&mesh, 1, "n2", gaps);
    // The rule may have met a probe before the first rest.
    survey.wait_for_trial();
    let before = mesh.agents.sum("wylis_probe_retransmits_total", &[]);
    let result = survey.finish();
    let longest = Duration::from_millis(gaps.iter().copied().max().unwrap());
    for (found, truth) in [result.outgoing, result.incoming].into_iter().zip(path.after) {
        println!(
            "survey, {:?}, {:?}: true {truth:?}, found {found:?}",
            path.topology.overlay, path.toll
        );
        match (found, truth) {
            (Coldness::After { gap, mark, .. }, Some(truth)) => {
                assert!(within(gap, truth, PRECISION), "{gap:?}");
                assert!(is_toll(path.toll, mark), "{mark:?}");
            }
            (Coldness::WarmAt(gap), None) => assert!(within(gap, longest, PRECISION), "{gap:?}"),
            _ => panic!("true {truth:?}, found {found:?}\n{}", mesh.agents.logs()),
        }
    }
    // The trials are counted nowhere, and the agents keep the path warm.
    let after = mesh.agents.sum("wylis_probe_retransmits_total", &[]);
    assert_eq!(after, before, "{}", mesh.agents.logs());
    assert_eq!(mesh.agents.sum("wylis_probe_failures_total", &[]), 0.0, "{}", mesh.agents.logs());
    drop(laid);
}

const fn both_ways(overlay: Overlay, seconds: u64) -> ColdPath {
    ColdPath::both_ways(overlay, Duration::from_secs(seconds))
}

#[test]
#[ignore = "takes a minute: make test-long"]
fn slow_cold_after_3_s_in_vxlan() {
    finds(&both_ways(Overlay::Vxlan, 3), &[2850, 3050]);
}

#[test]
fn a_path_cold_after_3_s_for_one_side() {
    finds(&ColdPath::ONE_SIDE, &[2850, 3300]);
}

#[test]
#[ignore = "takes a minute: make test-long"]
fn slow_nat_of_4_s() {
    finds(&ColdPath::NAT, &[3800, 4100]);
}

#[test]
fn a_late_neighbour() {
    // On a busy machine the address is forgotten up to 0.15 s late.
    finds(&ColdPath::NEIGHBOUR, &[3900, 4200]);
}

#[test]
#[ignore = "takes a minute: make test-long"]
fn slow_late_handshake() {
    finds(&ColdPath::HANDSHAKE, &[3800, 4100]);
}

#[test]
fn a_path_that_is_never_cold() {
    finds(&ColdPath::WARM, &[1000, 3000]);
}

/// The gaps of a person who does not know the path.
const COARSE: &[u64] = &[1000, 2000, 5000, 10_000, 30_000];

#[test]
#[ignore = "takes two minutes: make test-long"]
fn slow_cold_after_3_s() {
    finds(&both_ways(Overlay::IpInIp, 3), COARSE);
}

#[test]
#[ignore = "takes two minutes: make test-long"]
fn slow_cold_one_way() {
    finds(&ColdPath::ONE_WAY, COARSE);
}

#[test]
#[ignore = "takes four minutes: make test-long"]
fn slow_cold_after_7_s() {
    finds(&both_ways(Overlay::Vxlan, 7), COARSE);
}

#[test]
#[ignore = "takes four minutes: make test-long"]
fn slow_cold_after_7_s_in_ip_in_ip() {
    finds(&both_ways(Overlay::IpInIp, 7), COARSE);
}

#[test]
#[ignore = "takes ten minutes: make test-long"]
fn slow_cold_after_20_s() {
    finds(&both_ways(Overlay::Vxlan, 20), COARSE);
}

#[test]
#[ignore = "takes ten minutes: make test-long"]
fn slow_cold_after_20_s_in_ip_in_ip() {
    finds(&both_ways(Overlay::IpInIp, 20), COARSE);
}

#[test]
#[ignore = "takes a minute: make test-long"]
fn slow_pairs_of_a_mesh_are_all_surveyed() {
    let Some(mesh) = TunnelMesh::new(Topology::of(3), FAST) else { return };
    let status = Survey::start(&mesh, 1, "all", &[1000, 2000]).end(|| ());
    let mut pairs: Vec<[&str; 2]> =
        status.results.iter().map(|pair| [pair.source.as_str(), pair.target.as_str()]).collect();
    pairs.iter_mut().for_each(|pair| pair.sort_unstable());
    pairs.sort_unstable();
    assert_eq!(pairs, [["n1", "n2"], ["n1", "n3"], ["n2", "n3"]]);
    for found in status.results.iter().flat_map(|pair| [pair.result.outgoing, pair.result.incoming])
    {
        assert!(
            matches!(found, Coldness::WarmAt(gap) if gap >= Duration::from_secs(2)),
            "{found:?}"
        );
    }
}

#[test]
#[ignore = "takes a minute: make test-long"]
fn slow_cold_for_one_side_in_vxlan() {
    finds(&ColdPath::ONE_SIDE.over(Overlay::Vxlan), &[2850, 3300]);
}

#[test]
#[ignore = "takes two minutes: make test-long"]
fn slow_cold_one_way_in_vxlan() {
    finds(&ColdPath::ONE_WAY.over(Overlay::Vxlan), COARSE);
}

#[test]
#[ignore = "takes a minute: make test-long"]
fn slow_nat_of_4_s_in_ip_in_ip() {
    finds(&ColdPath::NAT.over(Overlay::IpInIp), &[3800, 4100]);
}

#[test]
#[ignore = "takes a minute: make test-long"]
fn slow_late_neighbour_in_ip_in_ip() {
    finds(&ColdPath::NEIGHBOUR.over(Overlay::IpInIp), &[3900, 4200]);
}

#[test]
#[ignore = "takes a minute: make test-long"]
fn slow_late_handshake_in_ip_in_ip() {
    finds(&ColdPath::HANDSHAKE.over(Overlay::IpInIp), &[3800, 4100]);
}

#[test]
#[ignore = "takes a minute: make test-long"]
fn slow_never_cold_in_ip_in_ip() {
    finds(&ColdPath::WARM.over(Overlay::IpInIp), &[1000, 3000]);
}

#[test]
fn a_workload_keeps_a_cold_path_warm() {
    a_workload_keeps_warm(Overlay::Vxlan);
}

#[test]
#[ignore = "takes a minute: make test-long"]
fn slow_workload_in_ip_in_ip() {
    a_workload_keeps_warm(Overlay::IpInIp);
}

fn a_workload_keeps_warm(overlay: Overlay) {
    let path = both_ways(overlay, 3);
    let Some(mesh) = TunnelMesh::new(path.topology, FAST) else { return };
    let laid = path.lay(&mesh.network);
    let link = Link::new(&mesh.network, 1, 2);
    let survey = Survey::start(&mesh, 1, "n2", &[3300]);
    let result = survey.finish_while(|| {
        let took = link.connect(Duration::from_secs(5));
        assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}");
    });
    println!("survey, with a workload: {result:?}");
    for found in [result.outgoing, result.incoming] {
        assert!(matches!(found, Coldness::WarmAt(_)), "{found:?}");
    }
    drop(laid);
}

#[test]
#[ignore = "takes four minutes: make test-long"]
fn slow_lossy_path_is_not_called_cold() {
    no_figure_with_loss(Overlay::Vxlan);
}

#[test]
#[ignore = "takes four minutes: make test-long"]
fn slow_lossy_path_in_ip_in_ip() {
    no_figure_with_loss(Overlay::IpInIp);
}

fn no_figure_with_loss(overlay: Overlay) {
    let path = ColdPath::LOSSY.over(overlay);
    let Some(mesh) = TunnelMesh::new(path.topology, FAST) else { return };
    let survey = Survey::start(&mesh, 1, "n2", &[1000, 2000]);
    // The survey needs a peer that is up.
    let laid = path.lay(&mesh.network);
    let result = survey.finish();
    println!("survey, lossy: {result:?}");
    for found in [result.outgoing, result.incoming] {
        assert!(!matches!(found, Coldness::After { .. }), "{found:?}");
    }
    drop(laid);
}
