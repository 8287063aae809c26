//! The last day of the mesh, from what each agent remembers of its peers' faults.

use std::time::{Duration, Instant};

use super::{Collected, Reads, deadline_of_all};
use crate::document::{MAX_FAULTS, read_faults};
use crate::history::{Day, Faults, MeshFaults, Recollection};
use crate::matrix::RowError;
use crate::name::NodeName;
use crate::state::Snapshot;
use crate::wire;

/// For judging the times of the day, after the collection: readers wait no longer. A day with a fault in each bin
/// takes as long with 150 nodes.
const JUDGING_TIME: Duration = Duration::from_secs(1);

/// Collects the last day.
pub(super) fn collect(
    own: &NodeName,
    snapshot: &Snapshot,
    reads: &Reads,
    recollection: &Recollection,
) -> Day {
    let mesh = MeshFaults::new(own, Faults::of(recollection));
    let mut faults = AllFaults(mesh);
    let deadline = Instant::now() + deadline_of_all(snapshot);
    super::collect(&mut faults, own, snapshot, reads, deadline);
    let collected = Instant::now();
    let mut may_judge = || collected.elapsed() < JUDGING_TIME;
    Day::of(&faults.0, recollection.taken.wall, &mut may_judge)
}

/// The faults so far.
struct AllFaults(MeshFaults);

impl Collected for AllFaults {
    fn path(&self) -> &str {
        wire::FAULTS_PATH
    }

    fn max_bytes(&self) -> usize {
        MAX_FAULTS
    }

    /// Bounded by the bytes of all documents.
    fn has_room(&self) -> bool {
        true
    }

    fn read(
        &mut self,
        node: &NodeName,
        document: &[u8],
        _: Option<NodeName>,
    ) -> Result<(), RowError> {
        self.0.add(node, Ok(read_faults(node, document)?));
        Ok(())
    }

    fn miss(&mut self, node: &NodeName, error: RowError) {
        self.0.add(node, Err(error.of_the_past()));
    }

    fn reaching(&self, node: &NodeName) -> Vec<(u8, &NodeName)> {
        self.0.reaching(node)
    }
}
