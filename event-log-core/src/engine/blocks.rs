//! Memory for payloads: many share an allocation, so that a payload costs none of its own, and the thread that is done
//! with it does not have to free it while those who make the next ones allocate.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

/// Payloads of about this many bytes in all share an allocation: some hundred events. What waits longest of them keeps it.
const BLOCK_BYTES: usize = 1 << 15;

/// How many threads can copy at a time before some of them allocate.
const BLOCKS: usize = 8;

/// What payloads are cut from. A log has its own, so that what waits in its queue keeps no memory but the log's.
#[derive(Default)]
pub(super) struct Blocks([Block; BLOCKS]);

/// One for some of the threads, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Block(Mutex<BytesMut>);

/// Threads are numbered as they first copy something.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

impl Blocks {
    pub(super) fn copy(&self, bytes: &[u8]) -> Bytes {
        // A long one would leave too much of a block unused; and nobody waits for a lock to save an allocation.
        let block = &self.0[THREAD.with(|thread| thread % BLOCKS)];
        let block = if bytes.len() <= BLOCK_BYTES / 8 { block.0.try_lock() } else { None };
        let Some(mut block) = block else { return Bytes::copy_from_slice(bytes) };
        if block.capacity() < bytes.len() {
            *block = BytesMut::with_capacity(BLOCK_BYTES);
        }
        block.extend_from_slice(bytes);
        block.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_from_a_block_stays_as_it_was() {
        let blocks = Blocks::default();
        let bytes = |n: usize| vec![n as u8; 1 + n * 37 % 5_000];
        let copies: Vec<_> = (0..1_000).map(|n| blocks.copy(&bytes(n))).collect();
        for (n, copy) in copies.iter().enumerate() {
            assert_eq!(*copy, bytes(n));
        }
    }
}
