//! Which partition a key belongs to: the same pure function in every backend and every foreign producer.
//!
//! `partition = XxHash32(seed 0, UTF-8 bytes of the key) mod partition count`, which is what Apache Iggy's
//! own clients compute for a message key, so that a script that posts with a key and a program that
//! appends through this crate put a session into the same partition.
//!
//! ```
//! use event_log_core::{PartitionId, partition_of};
//!
//! assert_eq!(partition_of("session-1", 8), PartitionId(5));
//! assert_eq!(partition_of("session-2", 8), PartitionId(3));
//! ```
//!
//! Implementations in other languages check themselves against [`TEST_VECTORS`].

use std::num::NonZeroU32;

use twox_hash::XxHash32;

use crate::position::PartitionId;

/// The partition of `key` among `partitions`.
///
/// A count of zero, which no log has, is taken as one, so that the function is total.
#[must_use]
pub fn partition_of(key: &str, partitions: u32) -> PartitionId {
    let count = NonZeroU32::new(partitions).unwrap_or(NonZeroU32::MIN);
    PartitionId(XxHash32::oneshot(0, key.as_bytes()) % count)
}

/// Keys with their XxHash32 (seed 0), computed with an implementation that shares no code with this crate.
///
/// The longest inputs cross the 16-byte stripe of the algorithm; one is not ASCII.
pub const TEST_VECTORS: &[(&str, u32)] = &[
    ("", 0x02cc_5d05),
    ("a", 0x550d_7456),
    ("abc", 0x32d1_53ff),
    ("session-1", 0xb576_d72d),
    ("session-2", 0xa283_ec13),
    ("user:42", 0xf64f_df97),
    ("größe", 0xaac3_72d7),
    ("0193e4a0-5f3c-7c2e-9d1b-2f6f0a6b7c8d", 0xb8dc_ed7b),
    ("the quick brown fox jumps over the lazy dog", 0x6671_6377),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_vectors_hold() {
        for &(key, hash) in TEST_VECTORS {
            for count in [1, 3, 8, 1_000] {
                assert_eq!(partition_of(key, count), PartitionId(hash % count), "{key:?} of {count}");
            }
        }
        // Keys at and over the 255 bytes that Iggy can carry hash like any other.
        assert_eq!(partition_of(&"x".repeat(255), u32::MAX), PartitionId(0x9d0a_b366));
        assert_eq!(partition_of(&"x".repeat(256), u32::MAX), PartitionId(0xae1a_224a));
    }

    #[test]
    fn a_count_of_zero_is_taken_as_one() {
        assert_eq!(partition_of("a", 0), PartitionId(0));
    }

    proptest! {
        #[test]
        fn an_independent_xxhash32_agrees(key in ".{0,300}", count in 1_u32..) {
            let independent = xxhash_rust::xxh32::xxh32(key.as_bytes(), 0) % count;
            prop_assert_eq!(partition_of(&key, count), PartitionId(independent));
        }
    }
}
