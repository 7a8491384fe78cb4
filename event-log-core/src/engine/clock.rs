//! The only sources of time and chance in the engine, so that a test can choose both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use uuid::Uuid;

use crate::contain::contain;
use crate::event::EventId;
use crate::position::Timestamp;

/// Tells what time it is.
pub trait Clock: Send + Sync + 'static {
    /// The time now. It may stand still, and may go back as the system's clock can.
    fn now(&self) -> Timestamp;
}

/// A clock of the application. When it panics the system's clock answers for it.
struct ContainedClock(Arc<dyn Clock>);

/// Wraps a clock that may panic, for use where that would end more than one call.
#[must_use]
pub fn contain_clock(clock: Arc<dyn Clock>) -> Arc<dyn Clock> {
    Arc::new(ContainedClock(clock))
}

impl Clock for ContainedClock {
    fn now(&self) -> Timestamp {
        let mut now = None;
        contain(|| now = Some(self.0.now()));
        now.unwrap_or_else(|| SystemClock.now())
    }
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// A clock that follows tokio's, from a fixed start: with paused time a whole run is repeatable to the bit.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: Timestamp,
    started: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `start` now.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, started: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Timestamp(self.start.0.saturating_add(elapsed))
    }
}

/// Makes UUIDv7 ids (RFC 9562) without a lock: 48 bits of milliseconds, a 32-bit counter, and 42 random bits
/// that belong to this generator.
///
/// Two ids of one generator differ by the counter unless 2^32 are made within a millisecond; ids of two
/// generators differ by the random bits. Within a millisecond the ids of a generator sort as they were made.
#[derive(Debug)]
pub(crate) struct IdGenerator {
    node: u64,
    counter: AtomicU32,
}

const NODE_BITS: u32 = 42;

impl IdGenerator {
    pub(crate) fn new(random: u64) -> Self {
        Self { node: random & ((1 << NODE_BITS) - 1), counter: AtomicU32::new(0) }
    }

    /// `count` ids for events that are submitted now.
    pub(crate) fn generate(&self, now: Timestamp, count: u32) -> impl Iterator<Item = EventId> + use<> {
        let first = self.counter.fetch_add(count, Ordering::Relaxed);
        let (node, millis) = (self.node, now.as_millis());
        (0..count).map(move |nth| Self::id(node, millis, first.wrapping_add(nth)))
    }

    fn id(node: u64, millis: u64, counter: u32) -> EventId {
        let (high, low) = (u128::from(counter >> 20), u128::from(counter & 0xf_ffff));
        let time = u128::from(millis) << 80;
        let version_and_variant = (7 << 76) | (2 << 62);
        EventId::from_u128(time | version_and_variant | (high << 64) | (low << NODE_BITS) | u128::from(node))
    }
}

/// A small generator of chance (SplitMix64): for jitter, and reproducible from its seed.
#[derive(Debug)]
pub(crate) struct Chance(AtomicU64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn next_u64(&self) -> u64 {
        let mut z =
            self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn next_u32(&self) -> u32 {
        (self.next_u64() >> 32) as u32
    }
}

/// The seed of one of the handles that were opened with `seed`.
pub(crate) fn seed_of_handle(seed: u64, handle: u64) -> u64 {
    // The factor is odd and the mixing a bijection: no two handles of a seed have the same.
    Chance::new(seed ^ handle.wrapping_mul(0xd1b5_4a32_d192_ed03)).next_u64()
}

/// A seed from the operating system's randomness.
pub(crate) fn random_seed() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    // A v4 UUID has six fixed bits, at different places in its halves.
    high.rotate_left(32) ^ low
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn chance_is_what_splitmix64_makes_of_its_seed() {
        let chance = Chance::new(1_234_567);
        let drawn: Vec<_> = (0..3).map(|_| chance.next_u64()).collect();
        // The reference implementation's first numbers for this seed.
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn ids_are_version_7_carry_the_time_and_sort_as_made() {
        let ids = IdGenerator::new(u64::MAX);
        let now = Timestamp(1_700_000_000_123_456);
        let made: Vec<_> = (0..3).flat_map(|_| ids.generate(now, 1_000)).collect();
        for id in &made {
            let uuid = id.as_uuid();
            assert_eq!(uuid.get_version_num(), 7);
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
            let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
            assert_eq!((seconds, nanos / 1_000_000), (1_700_000_000, 123));
        }
        assert!(made.is_sorted());
        assert_eq!(made.iter().collect::<HashSet<_>>().len(), made.len());
    }

    #[test]
    fn the_counter_uses_all_its_bits() {
        let ids: HashSet<_> = (0..32).map(|bit| IdGenerator::id(0, 0, 1 << bit)).collect();
        assert_eq!(ids.len(), 32);
    }

    #[test]
    fn chance_is_spread_evenly_and_a_seed_makes_it_again() {
        let draw = |seed| {
            let chance = Chance::new(seed);
            (0..1_000).map(|_| chance.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        for bit in 0..64 {
            let set = draw(7).into_iter().filter(|number| number >> bit & 1 == 1).count();
            assert!((400..600).contains(&set), "bit {bit} is set in {set} of 1,000");
        }
    }
}
