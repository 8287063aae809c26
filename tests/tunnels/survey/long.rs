//! WireGuard's own timer, found by a survey; run by `make lab-long`.

use std::time::Duration;

use wylis::survey::{Coldness, Mark};

use super::run::{FAST, Survey};
use crate::faults::{self, Fault};
use crate::mesh::TunnelMesh;
use crate::network::Topology;

/// A session is used for 180 s (REJECT_AFTER_TIME), and it may begin up to 5 s after the rest does, when the lost
/// handshake is repeated.
const EXPIRY: std::ops::Range<Duration> = Duration::from_secs(180)..Duration::from_secs(200);

#[test]
#[ignore = "takes half an hour: make lab-long"]
fn long_an_expired_session_is_found() {
    let Some(mesh) = TunnelMesh::new(Topology::of(2), FAST) else { return };
    let put = |host: &crate::network::Host| Fault::put(&host.namespace, &faults::lost_handshake());
    let faults: Vec<Fault> = mesh.network.hosts().map(put).collect();
    let result = Survey::start(&mesh, 1, "n2", &[175_000, 189_000]).finish();
    let lost: u64 = faults.iter().map(|fault| fault.packets("lost")).sum();
    println!("survey, WireGuard's timers, {lost} handshake packets dropped: {result:?}");
    for found in [result.outgoing, result.incoming] {
        let Coldness::After { gap, mark: Mark::Late(late), .. } = found else {
            panic!("{found:?}")
        };
        assert!(EXPIRY.contains(&gap), "{gap:?}");
        // WireGuard repeats a handshake after 5 s and up to a third of a second.
        assert!((4.9..6.0).contains(&late.as_secs_f64()), "{late:?}");
    }
    assert!(lost >= 6, "three trials of each direction lose a handshake: {lost}");
}
