//! Faults that are asked for when their cells have been closed for minutes.

use std::time::{Duration, Instant};

use super::faults::{ASKED, CUT, DEAD, OTHER, cut, during, mesh};
use super::past::{ask, assert_remembered, document, matrix, words};
use super::said::{Said, now, second};
use crate::mesh::{TunnelMesh, node};

/// Length of a cell.
const CELL: u64 = 300;
/// From the end of a fault to the question.
const LATER: Duration = Duration::from_secs(600);

/// Waits for this much of the wall clock.
fn wait_until_second(second: u64) {
    std::thread::sleep(Duration::from_secs(second.saturating_sub(now())));
}

/// Waits until a cell has just begun: two faults in one cell are remembered as one.
fn wait_for_next_cell() {
    wait_until_second((now() / CELL + 1) * CELL + 1);
}

/// What was reported of each fault, and in which cell.
fn faults(mesh: &mut TunnelMesh) -> Vec<Said> {
    let mut all = Vec::new();
    wait_for_next_cell();
    all.extend(during(mesh, &[ASKED], CUT, |mesh| cut(mesh, 1, 2), |_, fault| drop(fault)));
    wait_for_next_cell();
    let link = |mesh: &TunnelMesh, state: &str| {
        mesh.network.switch.ip(&format!("link set p4 {state}\n"));
    };
    let (down, up) =
        (|mesh: &mut TunnelMesh| link(mesh, "down"), |mesh: &mut TunnelMesh, ()| link(mesh, "up"));
    all.extend(during(mesh, &[ASKED], DEAD, down, up));
    wait_for_next_cell();
    let kill = |mesh: &mut TunnelMesh| mesh.agents.kill(&node(4));
    all.extend(during(mesh, &[ASKED], DEAD, kill, |mesh, pod| mesh.restart(4, &pod)));
    all
}

#[test]
#[ignore = "slow: make test-long"]
fn three_faults_are_remembered_ten_minutes_later() {
    let Some(mut mesh) = mesh() else { return };
    let said = faults(&mut mesh);
    let ended = Instant::now();
    std::thread::sleep(LATER);
    println!("history: asked {:.0?} after the last fault", ended.elapsed());
    for said in &said {
        println!("history: {}: {:?}", said.at, said.findings);
        assert_remembered(&mesh, ASKED, said);
        ask(&mesh, || {
            // The begin of the cell, and that of the one before it, without a fault.
            let edge = said.at / CELL * CELL;
            let [past, before] = [edge, edge - 1].map(|asked| matrix(&mesh, ASKED, asked));
            let other = matrix(&mesh, OTHER, said.at);
            let whole = second(&past["at"]) == edge
                && past["seconds"] == CELL
                && words(&past) == words(&other);
            whole.then_some(()).ok_or_else(|| format!("{past:#}\n{other:#}\n{before:#}"))
        });
    }
    // A line of the day for each fault, with begin and end, and none beside them.
    let day = document(&mesh, ASKED, "/api/v1/history/day");
    let lines = day["findings"].as_array().expect("findings");
    assert_eq!(lines.len(), said.len(), "{day:#}");
    for (line, said) in lines.iter().zip(&said) {
        assert_eq!(line["text"], said.findings[0].text, "{day:#}");
        assert_eq!(
            (&line["from"], &line["to"]),
            (&(said.at / CELL * CELL).into(), &((said.at / CELL + 1) * CELL).into())
        );
    }
}
