//! A set of event numbers: what was confirmed, and what was found.

/// A set of numbers that begin near 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    bits: Vec<u64>,
    len: u64,
}

impl Numbers {
    pub(crate) const NONE: Self = Self { bits: Vec::new(), len: 0 };

    /// Puts the number in. `false` if it was in already.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        let is_new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        self.len += u64::from(is_new);
        is_new
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.bits.get((number / 64) as usize).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }
}

impl FromIterator<u64> for Numbers {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut set = Self::default();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}
