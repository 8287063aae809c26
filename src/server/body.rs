//! A body as a reader, chunk by chunk. It never fails: after an error, tiny_http would send the rest
//! to the next client.

use std::io::Read;

use crate::document::Chunks;

/// Reads the chunks one after the other.
pub(super) struct Body {
    chunks: Chunks,
    current: Vec<u8>,
    at: usize,
}

impl Body {
    pub(super) fn new(chunks: Chunks) -> Self {
        Self { chunks, current: Vec::new(), at: 0 }
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.at >= self.current.len() {
            // Freed before the next chunk is rendered.
            self.current = Vec::new();
            self.at = 0;
            match self.chunks.next() {
                None => return Ok(0),
                Some(next) => self.current = next,
            }
        }
        let rest = self.current.get(self.at..).unwrap_or_default();
        let count = rest.len().min(into.len());
        for (to, from) in into.iter_mut().zip(rest) {
            *to = *from;
        }
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_whole_with_buffers_of_any_size() {
        let pieces = vec![vec![], b"ab".to_vec(), vec![], b"cdefg".to_vec(), vec![]];
        for size in 1..9 {
            let mut body = Body::new(Box::new(pieces.clone().into_iter()));
            let mut out = Vec::new();
            let mut buffer = vec![0; size];
            loop {
                let count = body.read(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                out.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(out, b"abcdefg", "{size}");
        }
    }
}
