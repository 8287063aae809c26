//! The part of a response that the kernel has not taken, in chunks that are freed as they are sent.

use std::collections::VecDeque;

/// A chunk: as much as one read of the backend, and small beside what a response may occupy.
const CHUNK: usize = 16 * 1024;

#[derive(Default)]
pub(super) struct Outbox {
    /// Each with a capacity of one chunk; none is empty.
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that are sent.
    sent: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes of memory.
    pub(super) fn allocated(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Appends bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.chunks.back().is_none_or(|last| last.len() >= CHUNK) {
                self.chunks.push_back(Vec::with_capacity(CHUNK));
            }
            let Some(last) = self.chunks.back_mut() else { return };
            let (fits, rest) = bytes.split_at(bytes.len().min(CHUNK - last.len()));
            last.extend_from_slice(fits);
            bytes = rest;
        }
    }

    /// The next bytes to send; `None` if there are none.
    pub(super) fn next(&self) -> Option<&[u8]> {
        self.chunks.front()?.get(self.sent..)
    }

    /// Removes bytes that were sent, at most those of [`Self::next`].
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.chunks.front().is_some_and(|first| first.len() <= self.sent) {
            self.chunks.pop_front();
            self.sent = 0;
        }
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
    }

    /// Drops all bytes.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn bytes_leave_in_order_and_their_memory_with_them(
            steps in prop::collection::vec((0_usize..40_000, 0_usize..40_000), 1..10)
        ) {
            let (mut outbox, mut pushed, mut sent) = (Outbox::default(), 0_u32, 0_u32);
            for (push, send) in steps {
                let bytes: Vec<u8> = (pushed..).take(push).map(|at| at.to_le_bytes()[0]).collect();
                outbox.push(&bytes);
                pushed += u32::try_from(push).unwrap();
                let mut left = send;
                while let Some(next) = outbox.next().filter(|_| left > 0) {
                    let count = next.len().min(left);
                    for byte in &next[..count] {
                        prop_assert_eq!(*byte, sent.to_le_bytes()[0]);
                        sent += 1;
                    }
                    outbox.advance(count);
                    left -= count;
                }
                let held = usize::try_from(pushed - sent).unwrap();
                prop_assert_eq!(held == 0, outbox.is_empty());
                // A chunk is partly sent, and another partly filled.
                prop_assert!(outbox.allocated() < held + 2 * CHUNK);
                let capacity: usize = outbox.chunks.iter().map(Vec::capacity).sum();
                prop_assert_eq!(capacity, outbox.allocated());
            }
        }
    }
}
