//! The scenarios: one for each measure, and for each durability of the topic where that matters.

mod appends;
mod away;
mod backlog;
mod delivery;
mod idle;
mod lone;
mod open_loop;

use event_log_iggy::Durability;

use crate::Failure;
use crate::bench::{Bench, called};
use crate::contest::Contest;

/// What can be measured. The order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Appends(Durability),
    Batches(Durability),
    Lone(Durability),
    Backlog,
    Delivery(Durability),
    OpenLoop(Durability),
    Idle,
    Away,
}

impl Scenario {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let both = |scenario: fn(Durability) -> Self| {
            [scenario(Durability::Persisted), scenario(Durability::Replicated)]
        };
        let by_durability = [Self::Appends, Self::Batches, Self::Lone].into_iter().flat_map(both);
        let by_durability_too = [Self::Delivery, Self::OpenLoop].into_iter().flat_map(both);
        by_durability.chain([Self::Backlog]).chain(by_durability_too).chain([Self::Idle, Self::Away])
    }

    pub(crate) fn name(self) -> String {
        let (name, durability) = match self {
            Self::Appends(durability) => ("appends", durability),
            Self::Batches(durability) => ("batches", durability),
            Self::Lone(durability) => ("lone", durability),
            Self::Delivery(durability) => ("delivery", durability),
            Self::OpenLoop(durability) => ("open-loop", durability),
            Self::Backlog => return "backlog".to_owned(),
            Self::Idle => return "idle".to_owned(),
            Self::Away => return "away".to_owned(),
        };
        format!("{name}-{}", called(durability))
    }

    pub(crate) async fn run(self, bench: &Bench) -> Result<Vec<Contest>, Failure> {
        let name = self.name();
        match self {
            Self::Appends(durability) => Ok(vec![appends::appends(bench, name, durability).await?]),
            Self::Batches(durability) => Ok(vec![appends::batches(bench, name, durability).await?]),
            Self::Lone(durability) => Ok(vec![lone::run(bench, name, durability).await?]),
            Self::Backlog => Ok(vec![backlog::run(bench, name).await?]),
            Self::Delivery(durability) => Ok(vec![delivery::run(bench, name, durability).await?]),
            Self::OpenLoop(durability) => open_loop::run(bench, &name, durability).await,
            Self::Idle => Ok(vec![idle::run(bench, name).await?]),
            Self::Away => Ok(vec![away::run(bench, name).await?]),
        }
    }
}
