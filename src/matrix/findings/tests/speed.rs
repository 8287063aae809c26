//! How much CPU time the largest matrix takes.

use std::time::Duration;

use crate::matrix::{Cell, CellFacts, Matrix, Row};
use crate::name::NodeName;
use crate::probe::FailureReason::{ConnectTimeout, Refused, Reset, Unreachable};
use crate::state::{Direction, Verdict};

/// The most nodes of a matrix.
const NODES: usize = 418;

/// The verdict of a source on a target.
type Mesh = fn(usize, usize) -> Verdict;

/// Half of the cells are bad, in eight ways and without order.
fn noise(source: usize, target: usize) -> Verdict {
    let seed = (source * NODES + target) as u64;
    match (seed.wrapping_mul(6_364_136_223_846_793_005) >> 60) & 15 {
        0 => Verdict::Lossy,
        1 => Verdict::OneWay,
        2 => Verdict::Flaky(Refused),
        3 => Verdict::Mtu(Direction::Both),
        4 => Verdict::Down(ConnectTimeout),
        5 => Verdict::Down(Unreachable),
        6 => Verdict::Down(Reset),
        7 => Verdict::Down(Refused),
        _ => Verdict::Up,
    }
}

/// Time of this thread on a CPU.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn time(mesh: Mesh) -> (Duration, usize) {
    let name = |node| NodeName::new(&format!("node-{node:03}.example")).unwrap();
    let names: Vec<NodeName> = (0..NODES).map(name).collect();
    let cell =
        |source, target| (source != target).then(|| Cell::new(CellFacts::of(mesh(source, target))));
    let row = |source| Row::new(1, 0, (0..NODES).map(|target| cell(source, target)).collect());
    let rows = || (0..NODES).map(|source| Ok(row(source))).collect();
    let times = (0..5).map(|_| {
        let (rows, names, own) = (rows(), names.clone(), name(0));
        let begun = cpu();
        let matrix =
            Matrix::from_parts(own, (1, None), [Duration::ZERO; 2], names, rows, None).unwrap();
        (cpu() - begun, matrix.findings().len())
    });
    times.min().unwrap()
}

#[test]
#[ignore = "prints times: cargo test --release --lib speed -- --ignored --nocapture"]
fn times_at_418_nodes() {
    const DOWN: Verdict = Verdict::Down(ConnectTimeout);
    let meshes: [(&str, Mesh); 7] = [
        ("all up", |_, _| Verdict::Up),
        ("one node down for the others", |_, target| if target == 7 { DOWN } else { Verdict::Up }),
        ("all down", |_, _| DOWN),
        ("a relay", |source, target| if source == 7 || target == 7 { Verdict::Up } else { DOWN }),
        ("a split", |source, target| if source % 2 == target % 2 { Verdict::Up } else { DOWN }),
        ("all lossy", |_, _| Verdict::Lossy),
        ("noise", noise),
    ];
    for (what, mesh) in meshes {
        let (time, findings) = time(mesh);
        println!("{what}: {time:?}, {findings} findings");
    }
}
