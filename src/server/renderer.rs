//! What all answers share: the permit to compress, and the agent's own row for the other agents, which is
//! rendered once for all that ask within [`CACHE_TIME`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::on_the_handler;
use crate::document::Chunks;
use crate::gzip::{self, Level};

/// How long a row and a matrix are cached.
pub const CACHE_TIME: Duration = Duration::from_secs(5);
/// Content below this size is sent as it is: it fits one segment together with its head.
const MIN_CONTENT: usize = 1024;
/// Longest compressed content, since it is held in memory as a whole: a matrix of as many cells as fit
/// takes 1.5 MB. Longer content is sent as it is, piece by piece.
const MAX_COMPRESSED: usize = 2 * 1024 * 1024;

/// Shared by all threads of the server.
#[derive(Debug, Default)]
pub struct Renderer {
    /// Held while compressing, which takes memory.
    compressing: Mutex<()>,
    row: Mutex<Option<CachedRow>>,
}

/// A rendered row.
#[derive(Debug, Clone)]
pub(super) struct CachedRow {
    pub(super) content: Arc<[u8]>,
    pub(super) gzip: bool,
    pub(super) at: Instant,
}

impl Renderer {
    /// Compresses content, one at a time; `None` if it is to be sent as it is. The thread that answers probes
    /// compresses nothing.
    pub(super) fn gzip(&self, content: Chunks, level: Level) -> Option<Vec<u8>> {
        if on_the_handler() {
            return None;
        }
        let _permit = lock(&self.compressing);
        let compressed = gzip::compress(content, level, MAX_COMPRESSED)?;
        let length = gzip::content_length(&compressed)?;
        (length >= MIN_CONTENT).then_some(compressed)
    }

    /// The row of this moment or of the last seconds. `snapshot` gives what renders it, the same each
    /// time, and may wait; `None` if it gives nothing.
    pub(super) fn row<R: Fn() -> Chunks>(
        &self,
        now: Instant,
        snapshot: impl FnOnce() -> Option<R>,
    ) -> Option<CachedRow> {
        self.expire(now);
        // Cloned, so that the lock is not held here: the loop, which gives the snapshot, takes it.
        let cached = lock(&self.row).clone();
        if cached.is_some() {
            return cached;
        }
        let render = snapshot()?;
        let compressed = self.gzip(render(), Level::Small);
        let gzip = compressed.is_some();
        let content = compressed.unwrap_or_else(|| render().flatten().collect()).into();
        let row = CachedRow { content, gzip, at: now };
        *lock(&self.row) = Some(row.clone());
        Some(row)
    }

    /// Drops a row that is too old to send.
    pub fn expire(&self, now: Instant) {
        let old = |row: &mut CachedRow| now.saturating_duration_since(row.at) >= CACHE_TIME;
        lock(&self.row).take_if(old);
    }
}

// A poisoned lock is usable: the values are consistent after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use wylis_harness::bounds::worst_case;

    use super::*;

    fn chunks(size: usize) -> Chunks {
        let chunk = |index: usize| format!("{index:09}\n").into_bytes();
        Box::new((0..size / 10).map(chunk))
    }

    #[test]
    fn a_row_is_rendered_once_in_its_time_and_then_dropped() {
        let (renderer, start) = (Renderer::default(), Instant::now());
        let renders = AtomicUsize::new(0);
        let at = |seconds: u64| {
            renderer.row(start + Duration::from_secs(seconds), || {
                renders.fetch_add(1, Ordering::Relaxed);
                Some(|| chunks(2000))
            })
        };
        let rows: Vec<CachedRow> = (0..5).map(|second| at(second).unwrap()).collect();
        assert_eq!(renders.load(Ordering::Relaxed), 1);
        assert!(rows.iter().all(|row| Arc::ptr_eq(&row.content, &rows[0].content) && row.gzip));
        let weak = Arc::downgrade(&rows[0].content);
        drop(rows);
        renderer.expire(start + Duration::from_secs(4));
        assert!(weak.upgrade().is_some());
        renderer.expire(start + CACHE_TIME);
        assert!(weak.upgrade().is_none(), "dropped");
        assert_eq!(at(6).unwrap().at, start + Duration::from_secs(6));
        assert_eq!(renders.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_waiting_render_holds_no_lock_that_the_loop_takes() {
        let (renderer, now) = (Renderer::default(), Instant::now());
        let row = renderer.row(now, || {
            // The loop ticks before it gives the snapshot.
            renderer.expire(now);
            Some(|| chunks(20))
        });
        let row = row.unwrap();
        assert_eq!((row.gzip, row.content.len()), (false, 20), "too short to compress");
        let unresponsive = Renderer::default().row(now, || None::<fn() -> Chunks>);
        assert!(unresponsive.is_none());
    }

    #[test]
    fn one_answer_is_compressed_at_a_time() {
        let (renderer, now, most) =
            (Renderer::default(), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let now = Arc::new(now);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                let rendering = move |index: usize| {
                    if index == 0 {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                    if index == 9 {
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                    vec![b'x'; 1000]
                };
                scope.spawn(|| {
                    renderer.gzip(Box::new((0..10).map(rendering)), Level::Small).unwrap()
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn content_too_long_in_compressed_form_is_sent_as_it_is() {
        let renderer = Renderer::default();
        let mut seed = 1_u64;
        let mut noise = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_le_bytes()[7]
        };
        let noise: Vec<u8> = (0..MAX_COMPRESSED).map(|_| noise()).collect();
        let of = |size: usize| {
            let chunks = noise[..size].chunks(4096).map(<[u8]>::to_vec).collect::<Vec<_>>();
            renderer.gzip(Box::new(chunks.into_iter()), Level::Small)
        };
        assert_eq!(of(MAX_COMPRESSED), None);
        let longest = u32::try_from(of(MAX_COMPRESSED - 1024).unwrap().len()).unwrap();
        assert!(f64::from(longest) <= worst_case("MAX_COMPRESSED"), "{longest}");
    }

    #[test]
    fn compressing_needs_half_of_the_stack_in_an_unoptimized_build() {
        const HALF: u32 = 512 * 1024;
        let thread = std::thread::Builder::new().stack_size(usize::try_from(HALF).unwrap());
        let compress =
            || gzip::compress(chunks(100_000), Level::Small, MAX_COMPRESSED).unwrap().len();
        // An overflow would end the process.
        assert!(thread.spawn(compress).unwrap().join().unwrap() > 1000);
        assert!(f64::from(HALF) <= worst_case("ANSWER_STACK"));
    }
}
