//! gzip (RFC 1952) in memory: one member around the deflate stream of miniz_oxide. Pure.
//!
//! Compressing takes 0.3 MiB while it lasts, 66 KB of it on the stack. Inflating takes 11 KiB beside the
//! result, whose length is known from the trailer and bounded before anything is allocated.

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress as inflate};

/// Deflate, no optional field, no time, unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// CRC-32 and length of the content.
const TRAILER: usize = 8;
/// How thoroughly to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For megabytes: 11.2 MB of a matrix of 418 nodes become 1.52 MB in 0.25 s; level 5 would make 1.25
    /// MB of them in 0.67 s.
    Fast = 1,
    /// For all else: a scrape of 10, 100 and 1,000 peers becomes 2,874, 10,597 and 85,817 bytes in 0.4,
    /// 2.4 and 26 ms. Level 1 would make 20 % to 30 % more of it, and level 6 take twice the time for 0.5 %.
    Small = 5,
}

/// A deflate stream without the head of zlib, with the largest window.
const RAW_DEFLATE: i32 = -15;

/// Why bytes cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GzipError {
    /// No gzip of a single member without optional fields, or damaged.
    Malformed,
    /// The content is longer than the limit.
    TooLarge,
}

/// Compresses the content; `None` if the result is longer than `max`.
pub fn compress(
    chunks: impl Iterator<Item = Vec<u8>>,
    level: Level,
    max: usize,
) -> Option<Vec<u8>> {
    let flags = create_comp_flags_from_zip_params(level as i32, RAW_DEFLATE, 0);
    let mut deflate = CompressorOxide::new(flags);
    let (mut crc, mut length) = (Crc::NEW, 0_u32);
    let mut out = HEAD.to_vec();
    let mut feed = |bytes: &[u8], flush| {
        let (status, _) = compress_to_output(&mut deflate, bytes, flush, |compressed: &[u8]| {
            out.extend_from_slice(compressed);
            out.len() + TRAILER <= max
        });
        status
    };
    for chunk in chunks {
        crc.update(&chunk);
        // RFC 1952, section 2.3.1: the length modulo 2^32.
        length = length.wrapping_add(u32::try_from(chunk.len()).ok()?);
        (feed(&chunk, TDEFLFlush::None) == TDEFLStatus::Okay).then_some(())?;
    }
    (feed(&[], TDEFLFlush::Finish) == TDEFLStatus::Done).then_some(())?;
    out.extend_from_slice(&crc.value().to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    Some(out)
}

/// The length of the content, as the trailer has it.
#[must_use]
pub fn content_length(compressed: &[u8]) -> Option<usize> {
    let (_, length) = compressed.split_last_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*length)).ok()
}

/// Inflates the content.
///
/// # Errors
/// When it is malformed or longer than `max`.
pub fn decompress(compressed: &[u8], max: usize) -> Result<Vec<u8>, GzipError> {
    let parts = || {
        let (head, rest) = compressed.split_first_chunk::<{ HEAD.len() }>()?;
        let (stream, trailer) = rest.split_last_chunk::<TRAILER>()?;
        let (crc, _) = trailer.split_first_chunk::<4>()?;
        // Time, level and system may differ.
        (head.get(..4) == HEAD.get(..4)).then_some((stream, u32::from_le_bytes(*crc)))
    };
    let (stream, crc) = parts().ok_or(GzipError::Malformed)?;
    let length = content_length(compressed).ok_or(GzipError::Malformed)?;
    if length > max {
        return Err(GzipError::TooLarge);
    }
    let mut content = vec![0; length];
    // The stream ends where the content does, or it is refused: it cannot write past its end.
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let result = inflate(&mut Box::<DecompressorOxide>::default(), stream, &mut content, 0, flags);
    let valid = result == (TINFLStatus::Done, stream.len(), length) && Crc::of(&content) == crc;
    if valid { Ok(content) } else { Err(GzipError::Malformed) }
}

/// The CRC-32 of gzip (RFC 1952, section 8), with 1 KiB of table; the crate has 16.
pub(crate) struct Crc(u32);

impl Crc {
    /// Of nothing.
    pub(crate) const NEW: Self = Self(u32::MAX);
    const TABLE: [u32; 256] = table();

    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let [low, ..] = self.0.to_le_bytes();
            let entry = Self::TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default();
            self.0 = self.0 >> 8 ^ entry;
        }
    }

    /// The CRC of all that was added.
    pub(crate) fn value(&self) -> u32 {
        !self.0
    }

    /// That of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> u32 {
        let mut crc = Self::NEW;
        crc.update(bytes);
        crc.value()
    }
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
#[expect(clippy::cast_possible_truncation, reason = "an index below 256")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let (mut entry, mut bit) = (index as u32, 0);
        while bit < 8 {
            entry = if entry & 1 == 1 { entry >> 1 ^ 0xedb8_8320 } else { entry >> 1 };
            bit += 1;
        }
        table[index] = entry;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;
    use crate::document::MAX_ROW;

    fn compressed(content: &[u8]) -> Vec<u8> {
        compress(content.chunks(1000).map(<[u8]>::to_vec), Level::Small, usize::MAX).unwrap()
    }

    /// What the tool gzip makes of `input`; `None` where it fails.
    fn gzip(option: &str, input: &[u8]) -> Option<Vec<u8>> {
        let mut tool = Command::new("gzip");
        tool.arg(option).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut tool = tool.spawn().unwrap();
        let mut stdin = tool.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = tool.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        output.status.success().then_some(output.stdout)
    }

    fn text(lines: usize) -> Vec<u8> {
        let line = |number| format!("wylis_peer_up{{target_node=\"n{number}\"}} {}\n", number % 7);
        (0..lines).map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn another_implementation_reads_and_writes_the_same() {
        assert_eq!(Crc::of(b"123456789"), 0xcbf4_3926);
        for content in [Vec::new(), b"a".to_vec(), text(20_000)] {
            let ours = compressed(&content);
            assert_eq!(content_length(&ours), Some(content.len()));
            assert_eq!(gzip("-dc", &ours).as_ref(), Some(&content));
            let theirs = gzip("-cn", &content).unwrap();
            assert_eq!(decompress(&theirs, content.len()), Ok(content));
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_inflated() {
        let bomb = compressed(&vec![0; 10_000_000]);
        assert!(bomb.len() < 20_000, "{}", bomb.len());
        assert_eq!(decompress(&bomb, MAX_ROW), Err(GzipError::TooLarge));
        // The longest row of a peer.
        let row = decompress(&compressed(&vec![b'x'; MAX_ROW]), MAX_ROW).unwrap();
        let most = u32::try_from(row.len()).unwrap();
        assert!(f64::from(most) <= wylis_harness::bounds::worst_case("MAX_ROW"));
        // One that announces less ends at what it announced.
        let mut lying = bomb;
        let end = lying.len() - 4;
        lying[end..].copy_from_slice(&1000_u32.to_le_bytes());
        assert_eq!(decompress(&lying, MAX_ROW), Err(GzipError::Malformed));
    }

    #[test]
    fn a_result_above_the_limit_is_none() {
        let content = text(20_000);
        let length = compressed(&content).len();
        assert!(length * 5 < content.len(), "{length}");
        let chunks = || content.chunks(777).map(<[u8]>::to_vec);
        assert_eq!(compress(chunks(), Level::Small, length - 1), None);
        assert_eq!(compress(chunks(), Level::Small, length).map(|out| out.len()), Some(length));
    }

    proptest! {
        #[test]
        fn any_content_survives(content in prop::collection::vec(any::<u8>(), 0..5000), size in 1_usize..700) {
            for level in [Level::Fast, Level::Small] {
                let chunks = content.chunks(size).map(<[u8]>::to_vec);
                let packed = compress(chunks, level, usize::MAX).unwrap();
                prop_assert!(packed.len() < content.len() + 64);
                let read = decompress(&packed, content.len());
                prop_assert_eq!(read.as_ref(), Ok(&content));
            }
        }

        #[test]
        fn damage_is_found(lines in 1_usize..200, at in any::<prop::sample::Index>(), bits in 1..=u8::MAX) {
            let content = text(lines);
            let mut packed = compressed(&content);
            let index = at.index(packed.len());
            packed[index] ^= bits;
            // Time, level, system and the bits after the stream are harmless.
            if let Ok(read) = decompress(&packed, 1 << 20) {
                prop_assert!(read == content, "{index}");
            }
            prop_assert!(decompress(&packed[..index], 1 << 20).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0_u32..2000) {
            let packed = [&HEAD[..], &bytes, &length.to_le_bytes()].concat();
            if let Ok(content) = decompress(&packed, 1000) {
                prop_assert!(content.len() <= 1000);
            }
        }
    }
}
