//! What becomes of the fetches that are lost with the connection of their consumer.
//!
//! A lost connection takes all fetches with it, and does not say whether one of them has lost it. Most losses have nothing to
//! do with any of them: all are made again, at once. One that is lost again before it was answered is **isolated**: it is made
//! over a connection of its own, until enough answers have come. If it loses that one too, it costs no other anything; if it
//! only needs longer than the connection that it shared with such a one lived, it has all the time it needs.
//!
//! So nothing has to find out which partition it is that loses connections, and none waits for another: this is what is called
//! a bulkhead, and it holds whether or not the suspicion is right.

use super::partition::PartitionReader;

/// What one loss weighs in answers.
const LOSS: u32 = 4;

/// Suspicion up to this is none: one loss.
const TRUSTED: u32 = LOSS;

/// However many losses there were, so many answers are enough to be trusted again.
const MOST: u32 = TRUSTED + 64;

/// Whether a request loses its connection: losses weigh more than answers, so that one that loses every third is isolated too.
#[derive(Clone, Copy, Default)]
pub(super) struct Suspicion(u32);

impl Suspicion {
    /// It was in flight when its connection was lost.
    pub(super) fn lost(&mut self) {
        self.0 = MOST.min(self.0 + LOSS);
    }

    pub(super) const fn answered(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// Whether its next request is made over a connection of its own.
    pub(super) const fn isolates(self) -> bool {
        self.0 > TRUSTED
    }
}

/// Who waits for a connection of its own, those first whose last turn is longest ago.
pub(super) fn in_turn(readers: &[PartitionReader]) -> Vec<usize> {
    let mut waiting: Vec<_> =
        (0..readers.len()).filter(|&at| readers[at].fetch().waits_for_isolation()).collect();
    waiting.sort_by_key(|&at| readers[at].fetch().isolated_at());
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(losses: u32, answers: u32) -> Suspicion {
        let mut suspicion = Suspicion::default();
        (0..losses).for_each(|_| suspicion.lost());
        (0..answers).for_each(|_| suspicion.answered());
        suspicion
    }

    #[test]
    fn two_losses_in_a_row_isolate_and_four_answers_end_it() {
        assert!(!after(1, 0).isolates());
        assert!(after(2, 0).isolates() && after(2, 3).isolates());
        assert!(!after(2, 4).isolates());
    }

    #[test]
    fn one_that_loses_every_third_request_is_isolated_sooner_or_later() {
        let mut suspicion = Suspicion::default();
        let mut isolated = 0;
        for nth in 1..=300 {
            isolated += u32::from(suspicion.isolates());
            if nth % 3 == 0 { suspicion.lost() } else { suspicion.answered() }
        }
        assert!(isolated > 250, "{isolated} of 300");
    }

    #[test]
    fn any_number_of_losses_is_forgiven_after_so_many_answers() {
        assert!(after(1_000, MOST - TRUSTED - 1).isolates());
        assert!(!after(1_000, MOST - TRUSTED).isolates());
    }
}
