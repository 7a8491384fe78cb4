//! The character of each partition, and of the log as a whole: what it does again and again, for a phase or for the whole walk.

use crate::chance::Chance;

/// What becomes of a request whose connection is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    /// It certainly did not arrive.
    NotSent,
    NeverArrives,
    Arrives,
    HalfArrives,
    /// It arrives so many milliseconds after, for which closing the connection waits.
    ArrivesAfter(u64),
}

/// What becomes of the requests of a partition. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sends {
    /// Appended and answered after that time.
    Answered(u64),
    /// Appended at once; the answer takes that time.
    AnsweredLate(u64),
    /// Each `every`th loses its connection, after that time.
    Lost { every: u64, after: u64, ending: Ending },
    /// Each `every`th is refused, after that time.
    Refused { every: u64, after: u64 },
}

/// What becomes of the fetches of a partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fetches {
    Answered(u64),
    /// With what was true when it was asked.
    AnsweredLate(u64),
    /// Each `every`th loses its connection, after that time.
    Lost {
        every: u64,
        after: u64,
    },
    /// Each fails, which is no fault of the connection.
    Fault(u64),
    /// Each times out, after that time.
    TimesOut(u64),
    /// Each answer is empty.
    Empty,
}

/// What the log does to a partition at moments, all of which begin a minute apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fortune {
    Kept,
    /// Retention removes all but so many records.
    Trimmed(u64),
    /// It is deleted and created again, which it tells.
    BeginsAgain,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Character {
    pub(crate) sends: Sends,
    pub(crate) fetches: Fetches,
    /// Records in an answer at most.
    pub(crate) most: usize,
    pub(crate) fortune: Fortune,
    /// Another producer appends so many records at moments.
    pub(crate) others: u64,
}

impl Character {
    pub(crate) const fn calm() -> Self {
        let (sends, fetches) = (Sends::Answered(1), Fetches::Answered(1));
        Self { sends, fetches, most: usize::MAX, fortune: Fortune::Kept, others: 0 }
    }

    /// One that has no faults. It may be slow.
    pub(crate) fn healthy(chance: &mut Chance) -> Self {
        let (most, others) = (chance.of(&[1, 10, usize::MAX]), chance.of(&[0, 0, 3, 30]));
        Self {
            sends: Sends::Answered(chance.of(&[0, 0, 1, 20, 50, 100, 1_500, 5_000])),
            fetches: Fetches::Answered(chance.of(&[0, 1, 20, 100])),
            // Where others append more than can be read between two losses, what is read back is never at its end.
            most: if others > 3 { most.max(10) } else { most },
            fortune: Fortune::Kept,
            others,
        }
    }

    pub(crate) fn any(chance: &mut Chance) -> Self {
        let after = chance.of(&[0, 0, 10, 50, 100, 300, 1_000, 10_000]);
        let slow = chance.of(&[1_000, 10_000, 60_000]);
        let every = chance.of(&[1, 1, 2, 3]);
        let ending = chance.of(&[
            Ending::NotSent,
            Ending::NeverArrives,
            Ending::NeverArrives,
            Ending::Arrives,
            Ending::HalfArrives,
            Ending::ArrivesAfter(10),
            Ending::ArrivesAfter(1_000),
        ]);
        let healthy = Self::healthy(chance);
        let sends = match chance.next(9) {
            0 | 1 => healthy.sends,
            2 => Sends::Answered(slow),
            3 => Sends::AnsweredLate(slow),
            4 => Sends::Refused { every: chance.of(&[1, 3, 7]), after },
            _ => Sends::Lost { every, after, ending },
        };
        let fetches = match chance.next(11) {
            0..=3 => healthy.fetches,
            4 => Fetches::Answered(slow.min(10_000)),
            5 => Fetches::AnsweredLate(slow.min(10_000)),
            6 | 7 => Fetches::Lost { every: chance.of(&[1, 1, 2, 3]), after },
            8 => Fetches::Fault(after),
            9 => Fetches::TimesOut(chance.of(&[1_000, 5_000, 30_000])),
            _ => Fetches::Empty,
        };
        let fortune = chance.of(&[
            Fortune::Kept,
            Fortune::Kept,
            Fortune::Kept,
            Fortune::Trimmed(0),
            Fortune::Trimmed(5),
            Fortune::BeginsAgain,
        ]);
        Self { sends, fetches, fortune, ..healthy }
    }
}

/// What the log does as a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Temper {
    pub(crate) connections: usize,
    pub(crate) says_where: bool,
    pub(crate) says_high: bool,
    /// A request that is given up, or lost, may arrive until its connection is closed.
    pub(crate) arrives_late: bool,
    /// A connection that is lost takes all others with it.
    pub(crate) falls_together: bool,
    pub(crate) connects_after: u64,
    /// Each nth attempt to connect fails; 0 for none.
    pub(crate) connect_fails: u64,
    /// Further connections are refused, or take so long.
    pub(crate) another: Result<u64, u64>,
    pub(crate) marks_after: u64,
    /// They are those of when it was asked.
    pub(crate) marks_late: bool,
    /// Each nth question where the partitions end fails; 0 for none.
    pub(crate) marks_fail: u64,
    /// These questions go one after the other.
    pub(crate) marks_in_turn: bool,
    /// A connection that is idle dies after so long; 0 for never.
    pub(crate) dies_after: u64,
    /// There are moments at which nothing can be reached.
    pub(crate) has_outages: bool,
}

impl Temper {
    pub(crate) fn any(chance: &mut Chance) -> Self {
        Self {
            connections: chance.of(&[1, 2, 2, 4]),
            says_where: !chance.once_in(4),
            says_high: chance.once_in(2),
            arrives_late: chance.once_in(2),
            falls_together: chance.once_in(4),
            connects_after: chance.of(&[0, 0, 5, 500]),
            connect_fails: chance.of(&[0, 0, 2, 3]),
            another: chance.of(&[Ok(0), Ok(0), Ok(0), Ok(5), Ok(500), Ok(3_000), Err(0), Err(10_000)]),
            marks_after: chance.of(&[0, 0, 10, 300, 700, 1_200, 1_200, 5_000]),
            marks_late: chance.once_in(2),
            marks_fail: chance.of(&[0, 0, 0, 2, 3]),
            marks_in_turn: chance.once_in(3),
            dies_after: chance.of(&[0, 0, 0, 500, 20_000]),
            has_outages: chance.once_in(6),
        }
    }
}
