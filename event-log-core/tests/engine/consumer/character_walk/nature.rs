//! Chance: which character each partition has, and at which pace the log answers.

use std::time::Duration;

use super::traffic::rival_goes;
use crate::reading_ahead::{MS, Part, SECOND, Server};

/// The other member of the group.
pub(crate) const RIVAL: (u64, u128) = (u64::MAX, 7);

pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(11).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    pub(crate) fn once_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What happens in a walk beside reading. Each excludes the others, so that what is expected stays simple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Another member joins and leaves.
    Shared,
    /// The caller seeks.
    Seeking,
    /// Partitions are deleted and created again.
    BeginningAgain,
    /// Each membership is a new epoch.
    Forgetting,
}

/// How a partition behaves, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Character {
    Healthy,
    /// With each so manieth fetch the connection is lost, and with it all that is under way over it.
    Loses(u64),
    /// Its answers say what was so when they were made, and are on their way for so long.
    Late(Duration),
    /// Each so manieth fetch is refused.
    Refuses(u64),
    /// It answers with one record at a time.
    Short,
    /// Storing its place loses the connection.
    CommitLoses,
    /// Storing its place is refused.
    CommitRefuses,
    /// Where the group stands in it cannot be asked for.
    NoPlace,
    /// It keeps no more than its last five records.
    Trims,
    /// It begins again every so often: another log with the same name.
    BeginsAgain(Duration),
}

impl Character {
    pub(crate) fn any(chance: &mut Chance, kind: Kind) -> Self {
        let every = chance.of(&[1, 1, 2, 3, 5, 10]);
        if kind == Kind::BeginningAgain && chance.once_in(2) {
            return Self::BeginsAgain(chance.of(&[300 * MS, 2 * SECOND, 20 * SECOND]));
        }
        match chance.below(13) {
            0 | 1 => Self::Healthy,
            2..5 => Self::Loses(every),
            5 => Self::Late(chance.of(&[50 * MS, SECOND, 10 * SECOND])),
            6 | 7 => Self::Refuses(every),
            8 => Self::Short,
            9 => Self::CommitLoses,
            10 => Self::CommitRefuses,
            11 if kind != Kind::BeginningAgain => Self::Trims,
            _ => Self::NoPlace,
        }
    }

    /// Whether what is in it can be read without a fault, and how much longer than a fetch takes that needs.
    pub(crate) const fn is_readable(self, kind: Kind) -> Option<Duration> {
        match self {
            Self::Healthy | Self::CommitLoses | Self::CommitRefuses => Some(Duration::ZERO),
            Self::NoPlace if matches!(kind, Kind::Plain | Kind::Seeking) => Some(Duration::ZERO),
            Self::Late(time) => Some(time),
            _ => None,
        }
    }

    pub(crate) const fn loses(self) -> bool {
        matches!(self, Self::Loses(_) | Self::CommitLoses)
    }

    fn becomes(self, part: &mut Part) {
        (part.loses_every, part.refuses_every, part.reply_takes, part.most) = (0, 0, Duration::ZERO, 0);
        (part.commit_loses, part.commit_fails, part.place_fails) = (false, false, false);
        match self {
            Self::Loses(every) => part.loses_every = every,
            Self::Late(time) => part.reply_takes = time,
            Self::Refuses(every) => part.refuses_every = every,
            Self::Short => part.most = 1,
            Self::CommitLoses => part.commit_loses = true,
            Self::CommitRefuses => part.commit_fails = true,
            Self::NoPlace => part.place_fails = true,
            Self::Healthy | Self::Trims | Self::BeginsAgain(_) => {}
        }
    }
}

/// What the partitions and the log are like in one phase.
#[derive(Clone, Debug)]
pub(crate) struct Nature {
    pub(crate) kind: Kind,
    pub(crate) characters: Vec<Character>,
    pub(crate) takes: Vec<Duration>,
    /// What each question takes, and joining.
    pub(crate) asks: Duration,
    pub(crate) join: Duration,
    pub(crate) places: Duration,
    pub(crate) waits: Duration,
    /// What a connection takes that is no member's, and how late news may come.
    pub(crate) connects: Duration,
    pub(crate) news: Duration,
    /// All connections are lost every so often, and the log is away for so long.
    pub(crate) cuts: Option<(Duration, Duration)>,
    /// The other member comes or goes every so often, and commits all that is in its partitions before it goes.
    pub(crate) rival: Option<(Duration, bool)>,
    is_early: bool,
    /// What is appended to each: so many, every so often.
    pub(crate) traffic: Vec<(Duration, u64)>,
}

impl Nature {
    pub(crate) fn any(chance: &mut Chance, partitions: usize, kind: Kind) -> Self {
        let bad = chance.below(4);
        let is_slow = chance.once_in(4);
        let mut character = |_| match chance.below(4) < bad {
            true => Character::any(chance, kind),
            false => Character::Healthy,
        };
        let characters = (0..partitions).map(&mut character).collect();
        let takes = |_| match chance.below(8) {
            0 => chance.of(&[SECOND, 3 * SECOND, 10 * SECOND]),
            1 => 300 * MS,
            2 | 3 => Duration::ZERO,
            _ => chance.of(&[MS, 5 * MS, 30 * MS, 90 * MS]),
        };
        let takes = (0..partitions).map(takes).collect();
        let traffic = |_| match chance.below(6) {
            0 => (30 * SECOND, 1),
            1 => (40 * SECOND, 6_000),
            2 => (100 * MS, 3),
            3 => (7 * SECOND, 200),
            _ => (chance.of(&[200 * MS, SECOND, 3 * SECOND]), 1),
        };
        let traffic = (0..partitions).map(traffic).collect();
        let slow = [150 * MS, 600 * MS, 1_200 * MS];
        let every = chance.of(&[SECOND, 10 * SECOND, 60 * SECOND]);
        let away = chance.of(&[Duration::ZERO, Duration::ZERO, 3 * SECOND, 30 * SECOND]);
        let rival = (chance.of(&[300 * MS, SECOND, 7 * SECOND, 40 * SECOND]), chance.once_in(2));
        Self {
            kind,
            characters,
            takes,
            asks: if is_slow { chance.of(&slow) } else { chance.of(&[Duration::ZERO, MS, 20 * MS]) },
            join: chance.of(&[Duration::ZERO, Duration::ZERO, 5 * MS, 80 * MS]),
            places: if chance.once_in(6) { chance.of(&slow) } else { Duration::ZERO },
            waits: if chance.once_in(6) { chance.of(&slow) } else { Duration::ZERO },
            connects: if chance.once_in(3) { chance.of(&slow) } else { Duration::ZERO },
            news: if chance.once_in(3) { chance.of(&slow) } else { Duration::ZERO },
            cuts: chance.once_in(6).then_some((every, away)),
            rival: (kind == Kind::Shared).then_some(rival),
            is_early: chance.once_in(6),
            traffic,
        }
    }

    /// All are healthy, and nothing is appended.
    pub(crate) fn healthy(partitions: usize, kind: Kind) -> Self {
        Self {
            kind,
            characters: vec![Character::Healthy; partitions],
            takes: vec![2 * MS; partitions],
            asks: MS,
            join: 5 * MS,
            places: Duration::ZERO,
            waits: Duration::ZERO,
            connects: Duration::ZERO,
            news: Duration::ZERO,
            cuts: None,
            rival: None,
            is_early: false,
            traffic: Vec::new(),
        }
    }

    pub(crate) fn becomes(&self, server: &Server) {
        server.change(|state| {
            (state.ask_takes, state.join_takes, state.commit_takes) = (self.asks, self.join, self.asks);
            (state.wait_takes, state.places_take) = (self.asks + self.waits, self.places);
            (state.wait_is_early, state.up) = (self.is_early, true);
            (state.connect_takes, state.wait_reply) = (self.connects, self.news);
            let natures = self.characters.iter().zip(&self.takes);
            for (part, (character, takes)) in state.parts.iter_mut().zip(natures) {
                character.becomes(part);
                part.fetch_takes = *takes;
            }
        });
        if self.rival.is_none() {
            rival_goes(server, false);
        }
    }
}
