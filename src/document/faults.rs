//! `/api/v1/past/faults`: when the peers of one node were not up.

use std::sync::Arc;

use serde::Serialize;

use super::history::{read_times, times};
use super::list::{List, Numbers};
use super::{Chunks, Head, ReadError, append, json, millis, read};
use crate::bounded_list::BoundedList;
use crate::history::{Faults, MAX_RUNS, Recollection, Run, Word};
use crate::name::{Instance, NodeName};

/// Maximum bytes of the faults of one node: 1,024 runs of 30, 600 times of 20, 2,500 names of 25.
pub const MAX_FAULTS: usize = 128 * 1024;

#[derive(Serialize)]
struct FaultsFields<'a> {
    nodes: Vec<&'a str>,
    times: List<Numbers>,
    runs: List<Numbers>,
    left_out: usize,
}

/// The faults of `node`. Between agents alone, so that they are as short as possible: a run lists the place of the
/// node, that of its first cell among the times, the number of cells, the octet of the word, failures and probes.
#[must_use]
pub fn faults_json(
    node: &NodeName,
    instance: &Instance,
    recollection: &Arc<Recollection>,
) -> Chunks {
    let faults = Faults::of(recollection);
    let run = |run: &Run| {
        let Run { path, first, count, failures, probes, octet } = *run;
        BoundedList([path, first, count, octet.into(), failures, probes].map(u64::from).to_vec())
    };
    let mut document = json(&Head::at(node, instance, faults.at));
    let fields = FaultsFields {
        nodes: faults.nodes.iter().map(NodeName::as_str).collect(),
        times: times(faults.times.iter().copied()),
        runs: BoundedList(faults.runs.iter().map(run).collect()),
        left_out: faults.left_out,
    };
    append(&mut document, &json(&fields));
    document.push(b'\n');
    Box::new(std::iter::once(document))
}

/// Reads the faults that `peer` sent.
///
/// # Errors
/// When they are malformed, of another version, or of another node.
pub fn read_faults(peer: &NodeName, document: &[u8]) -> Result<Faults, ReadError> {
    let document = read(document)?;
    if document.node != peer.as_str() {
        return Err(ReadError::OtherNode);
    }
    let faults = || {
        let name = |name: &&str| NodeName::new(name).ok().filter(|name| name != peer);
        let nodes: Vec<NodeName> = document.nodes?.0.iter().map(name).collect::<Option<_>>()?;
        let times = read_times(document.times?)?;
        let runs: Vec<Run> = document.runs?.0.iter().map(read_run).collect::<Option<_>>()?;
        let follows = |one: &Run, next: &Run| {
            one.path < next.path || one.path == next.path && one.end() <= usize::from(next.first)
        };
        let fits = nodes.is_sorted_by(|one, next| one < next)
            && runs.len() <= MAX_RUNS
            && runs.is_sorted_by(follows)
            && runs
                .iter()
                .all(|run| usize::from(run.path) < nodes.len() && run.end() <= times.len());
        let (at, left_out) = (millis(document.at)?, document.left_out);
        fits.then_some(Faults { at, times, nodes, runs, left_out })
    };
    faults().ok_or(ReadError::Malformed)
}

fn read_run(numbers: &Numbers) -> Option<Run> {
    let small = |number: &u64| u16::try_from(*number).ok();
    let [path, first, count, octet, failures, probes] = numbers.0.as_slice() else { return None };
    let octet = u8::try_from(*octet).ok()?;
    let run = Run {
        path: small(path)?,
        first: small(first)?,
        count: small(count)?,
        failures: small(failures)?,
        probes: small(probes)?,
        octet,
    };
    let is_word = octet == 0 || Word::from_octet(octet).is_some();
    (is_word && run.count > 0 && run.failures <= run.probes).then_some(run)
}
