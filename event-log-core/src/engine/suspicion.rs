//! Who is to have a connection of its own: what is lost with one that it shares, again and again.
//!
//! A connection that is lost takes with it all that is in flight over it, and does not say whether one of them has lost it. It
//! need not be known. Whichever is lost again soon goes over a connection of its own until enough answers have come: if it loses
//! that one too, it costs no other anything, and if it only needs longer than the shared one lived, it has the time. This is
//! called a bulkhead, and it holds whether or not the suspicion is right.

/// How many answers isolation takes at first. Each loss that comes soon after the one before doubles that: one that loses a
/// connection now and then costs the others ever less.
const FIRST: u32 = 4;

/// The most of them.
const MOST: u32 = 1_024;

/// A loss is forgotten after so many answers, for each that isolation would take next: until then, another one comes soon after.
const FORGOTTEN: u32 = 16;

/// Whether a request loses its connection.
#[derive(Clone, Copy, Default)]
pub(in crate::engine) struct Suspicion {
    /// How many answers are still to come over a connection of its own.
    owed: u32,
    /// How many there will have to be after another loss; none, if it would be the first.
    next: u32,
    /// How many have come since over the one that it shares.
    calm: u32,
}

impl Suspicion {
    /// It was in flight when its connection was lost.
    pub(in crate::engine) fn lost(&mut self) {
        (self.owed, self.calm) = (self.next, 0);
        self.next = (2 * self.next).clamp(FIRST, MOST);
    }

    pub(in crate::engine) fn answered(&mut self) {
        if self.owed > 0 {
            self.owed -= 1;
            return;
        }
        self.calm = self.calm.saturating_add(1);
        if self.calm >= FORGOTTEN * self.next {
            *self = Self::default();
        }
    }

    /// There is no connection of its own to be had: it makes do with the shared one, if that is not lost again.
    pub(in crate::engine) const fn cannot_be_isolated(&mut self) {
        self.owed = 0;
    }

    /// Whether its next request is made over a connection of its own.
    pub(in crate::engine) const fn isolates(self) -> bool {
        self.owed > 0
    }
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
    fn one_that_loses_now_and_then_is_isolated_for_ever_longer() {
        for every in [2, 5, 10, 60] {
            let mut suspicion = Suspicion::default();
            let mut shared = 0;
            for nth in 1..=100_000 {
                let loses = nth % every == 0;
                shared += u32::from(loses && !suspicion.isolates());
                if loses { suspicion.lost() } else { suspicion.answered() }
            }
            assert!(shared <= 12, "each {every}th: {shared} shared connections");
        }
    }

    #[test]
    fn a_loss_is_forgotten_and_any_number_of_them_is_forgiven() {
        let mut suspicion = after(1, FORGOTTEN * FIRST);
        suspicion.lost();
        assert!(!suspicion.isolates(), "it is the first again");
        assert!(after(1_000, MOST - 1).isolates() && !after(1_000, MOST).isolates());
    }

    #[test]
    fn without_a_connection_of_its_own_it_shares_one() {
        let mut suspicion = after(3, 0);
        suspicion.cannot_be_isolated();
        assert!(!suspicion.isolates());
        suspicion.lost();
        assert!(suspicion.isolates());
    }
}
