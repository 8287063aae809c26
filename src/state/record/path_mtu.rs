//! The path MTU of a peer: what the kernel knows, and what large probes learn of the path itself.

use super::PeerRecord;
use crate::probe::{Large, Outcome, Report};

impl PeerRecord {
    /// Takes the kernel's path MTU of a blank probe. That it is larger again shows only that its cache has
    /// forgotten a router's word: the next large probe hears it again, or passes.
    pub(super) fn cache_path_mtu(&mut self, path_mtu: Option<u32>) {
        let Some(cached) = path_mtu.filter(|_| path_mtu != self.cached_path_mtu) else { return };
        self.cached_path_mtu = Some(cached);
        let forgotten = self.path_mtu < self.largest_path_mtu && self.path_mtu < Some(cached);
        if !forgotten || !self.large.are_supported() {
            self.path_mtu = Some(cached);
        }
        self.largest_path_mtu = self.largest_path_mtu.max(self.path_mtu);
    }

    /// Bytes of the packet that a large probe sends past the kernel's cache, which has a smaller path MTU than
    /// there was.
    pub(in crate::state) fn packet_to_ask(&self) -> Option<u32> {
        self.largest_path_mtu.filter(|_| self.cached_path_mtu < self.largest_path_mtu)
    }

    /// Takes the path MTU that a large probe of full-size requests has learned.
    pub(in crate::state) fn learn_path_mtu(&mut self, large: Large, report: &Report) {
        let is_success = matches!(report.outcome, Outcome::Success { .. });
        let learned = report.kernel.and_then(|kernel| kernel.path_mtu).filter(|_| is_success);
        let Some(learned) = learned else { return };
        match large {
            Large::Request { packet: Some(_) } => self.path_mtu = Some(learned),
            Large::Answer => {}
            Large::Both | Large::Request { packet: None } => {
                self.cached_path_mtu = Some(learned);
                self.path_mtu = Some(learned);
            }
        }
        self.largest_path_mtu = self.largest_path_mtu.max(self.path_mtu);
    }
}
