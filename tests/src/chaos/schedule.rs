//! Which faults strike, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::history::Settings;

/// A fault, with all that it depends on. Partitions are modulo their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What it does.
    pub kind: Kind,
    /// How strongly: requests, records, bytes or milliseconds, as [`Kind`] says.
    pub size: u64,
    /// Which partition, handle or direction.
    pub which: u64,
    /// How long, in milliseconds, before it is ended. 0 for what ends by itself.
    pub lasts_ms: u64,
}

impl Fault {
    /// How long it is left alone before it is ended.
    #[must_use]
    pub const fn lasts(&self) -> Duration {
        Duration::from_millis(self.lasts_ms)
    }
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// All connections are cut once.
    Interrupt,
    /// All connections are cut, and none is let through.
    Disconnect,
    /// The connection with the so-and-so-many-th byte is cut, in the middle of a frame.
    CutInFrame,
    /// Each frame takes `size` milliseconds.
    Delay,
    /// `size` bytes a second.
    Throttle,
    /// What goes one way is swallowed.
    BlackHole,
    /// Nothing is read any more, and nobody is told.
    HalfOpen,
    /// Appends are carried out, and their connections cut in place of the replies.
    LoseReplies,
    /// Appends get lost with their connections.
    LoseRequests,
    /// Appends lose their connections, and arrive at the end of the fault: before more has been appended than consumers
    /// promise to remember.
    HoldRequests,
    /// Each append takes `size` milliseconds.
    SlowAppends,
    /// Fetches are answered as if there were nothing.
    EmptyFetches,
    /// Fetches of a partition fail.
    FailFetches,
    /// Fetches are not answered.
    StallFetches,
    /// Commits of a partition fail.
    FailCommits,
    /// A gap of `size` offsets.
    SkipOffsets,
    /// The server is killed (`kill -9`), and started after a while.
    KillServer,
    /// The server is told to end, and started after a while.
    EndServer,
    /// The server stands still (SIGSTOP), and goes on.
    PauseServer,
    /// The server is told to end, and comes back on another port.
    MoveServer,
    /// The disk of the server is full; then there is room again, and the server is started again.
    FillDisk,
    /// A handle is dropped with all that it has not sent, as if its process had died.
    CrashHandle,
}

impl Kind {
    /// A fault of this kind.
    fn fault(self, chance: &mut fastrand::Rng) -> Fault {
        let which = chance.u64(0..1_000);
        let (size, lasts_ms) = match self {
            Self::Interrupt | Self::CrashHandle | Self::MoveServer => (0, 0),
            Self::CutInFrame => (chance.u64(1..60_000), 0),
            Self::LoseReplies | Self::LoseRequests => (chance.u64(1..4), 0),
            Self::HoldRequests => (chance.u64(1..4), chance.u64(200..4_000)),
            Self::EmptyFetches => (chance.u64(1..20), 0),
            Self::FailFetches | Self::FailCommits => (chance.u64(1..6), 0),
            Self::SkipOffsets => (chance.u64(1..5), 0),
            Self::Delay => (chance.u64(1..200), chance.u64(200..2_000)),
            Self::Throttle => (chance.u64(5_000..500_000), chance.u64(200..2_000)),
            Self::SlowAppends => (chance.u64(1..400), chance.u64(200..2_000)),
            Self::Disconnect | Self::KillServer | Self::EndServer => (0, chance.u64(0..2_500)),
            Self::FillDisk => (0, chance.u64(200..2_500)),
            // Shorter and longer than a request may take.
            Self::BlackHole | Self::HalfOpen | Self::StallFetches | Self::PauseServer => {
                (0, chance.u64(200..5_000))
            }
        };
        Fault { kind: self, size, which, lasts_ms }
    }
}

/// A fault and when it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// When so many events have been offered, and the faults before it have ended.
    pub after: u64,
    /// And so long after the one before, in a run that goes by the clock.
    pub pause: Option<Duration>,
    /// The fault.
    pub fault: Fault,
}

/// The faults of a run, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// In the order of [`Strike::after`].
    pub strikes: Vec<Strike>,
}

impl Schedule {
    /// As many faults as the settings ask for, spread over the events.
    #[must_use]
    pub fn new(settings: &Settings, kinds: &[Kind]) -> Self {
        let mut chance = fastrand::Rng::with_seed(settings.seed ^ 0xfa17);
        let mut after: Vec<u64> =
            (0..settings.faults).map(|_| chance.u64(0..settings.events.max(1))).collect();
        after.sort_unstable();
        let faults = faults(settings, kinds, chance);
        let strikes = after.into_iter().zip(faults);
        Self { strikes: strikes.map(|(after, fault)| Strike { after, pause: None, fault }).collect() }
    }

    /// As many, one at every interval.
    #[must_use]
    pub fn every(interval: Duration, settings: &Settings, kinds: &[Kind]) -> Self {
        let chance = fastrand::Rng::with_seed(settings.seed ^ 0xfa17);
        let faults = faults(settings, kinds, chance);
        Self { strikes: faults.map(|fault| Strike { after: 0, pause: Some(interval), fault }).collect() }
    }
}

/// As many faults as the settings ask for. Each kind comes once before any comes twice.
fn faults(
    settings: &Settings,
    kinds: &[Kind],
    mut chance: fastrand::Rng,
) -> impl Iterator<Item = Fault> + use<> {
    let is_meant = |kind: &&Kind| settings.only.is_none_or(|only| only == **kind);
    let (kinds, mut deck): (Vec<_>, _) = (kinds.iter().filter(is_meant).copied().collect(), Vec::new());
    let mut deal = move || {
        if deck.is_empty() {
            deck.clone_from(&kinds);
            chance.shuffle(&mut deck);
        }
        deck.pop().map(|kind: Kind| kind.fault(&mut chance))
    };
    (0..settings.faults).map_while(move |_| deal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_schedule_and_every_kind_has_its_turn() {
        let kinds = [Kind::Interrupt, Kind::Delay, Kind::KillServer];
        let settings = Settings::new(7, 1_000, 9);
        let schedule = Schedule::new(&settings, &kinds);
        assert_eq!(schedule, Schedule::new(&settings, &kinds));
        assert_ne!(schedule, Schedule::new(&Settings::new(8, 1_000, 9), &kinds));
        for kind in kinds {
            assert_eq!(schedule.strikes.iter().filter(|strike| strike.fault.kind == kind).count(), 3);
        }
        assert!(schedule.strikes.is_sorted_by_key(|strike| strike.after));
    }
}
