//! A document and its length, so that a reader knows the whole from a part.

use super::Chunks;

/// A body whose length is known before it is sent.
pub struct Document {
    pub(super) length: usize,
    pub(super) chunks: Chunks,
}

impl Document {
    /// Makes it twice, once to count: `make` must give the same each time. That costs time, and no
    /// memory.
    pub fn counted(make: impl Fn() -> Chunks) -> Self {
        let length = make().map(|chunk| chunk.len()).sum();
        Self { length, chunks: make() }
    }

    /// One that is short.
    #[must_use]
    pub fn whole(text: Vec<u8>) -> Self {
        Self { length: text.len(), chunks: Box::new(std::iter::once(text)) }
    }
}

/// Why a document is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotShown {
    /// It is about a node that is not known.
    Unknown,
    /// The agent does not answer.
    Silent,
}

/// A document, or why there is none.
pub type Shown = Result<Document, NotShown>;
