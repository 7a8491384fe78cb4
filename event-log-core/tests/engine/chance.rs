//! The chance of a random walk: SplitMix64, so that a seed makes it again.

pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    pub(crate) fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.next(choices.len() as u64) as usize].clone()
    }

    pub(crate) fn once_in(&mut self, count: u64) -> bool {
        self.next(count) == 0
    }

    /// One of the few partitions that the logs of these tests have.
    pub(crate) fn partition(&mut self) -> u32 {
        self.next(u64::from(crate::served::PARTITIONS)) as u32
    }
}
