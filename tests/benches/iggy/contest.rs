//! What a scenario results in: contenders, their samples by round, and the goals.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::Failure;
use crate::stats::{Spread, figure, median};

/// A quantity with its unit, as it is printed.
pub(crate) type Quantity = &'static str;

/// One scenario: the same work by several contenders.
#[derive(Debug)]
pub(crate) struct Contest {
    /// As `--only` calls it.
    pub(crate) name: String,
    pub(crate) title: String,
    /// The quantity that is compared, and drawn.
    pub(crate) main: Quantity,
    pub(crate) rows: Vec<Row>,
    pub(crate) goals: Vec<Goal>,
}

/// A contender in a contest.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) contender: String,
    /// What it does, in a line.
    pub(crate) what: String,
    pub(crate) samples: Vec<Sample>,
    /// All latencies of all rounds, in nanoseconds, where latencies are measured.
    pub(crate) latencies: Option<Histogram<u64>>,
}

/// One round of one contender.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    pub(crate) values: BTreeMap<Quantity, f64>,
    /// Why it does not count: the audit, or the contender itself, has failed.
    pub(crate) failure: Option<String>,
}

impl Sample {
    pub(crate) fn new(
        round: usize,
        values: impl IntoIterator<Item = (Quantity, f64)>,
        audit: Result<(), Failure>,
    ) -> Self {
        let failure = audit.err().map(|error| format!("failed audit: {error}"));
        Self { round, values: values.into_iter().collect(), failure }
    }

    /// A round that came to nothing.
    pub(crate) fn failed(round: usize, error: &Failure) -> Self {
        Self { round, values: BTreeMap::new(), failure: Some(format!("failed: {error}")) }
    }
}

impl Row {
    pub(crate) fn new(contender: impl Into<String>, what: impl Into<String>) -> Self {
        Self { contender: contender.into(), what: what.into(), samples: Vec::new(), latencies: None }
    }

    /// The first failure. A contender that fails once has no result.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.samples.iter().find_map(|sample| sample.failure.as_deref())
    }

    pub(crate) fn values(&self, quantity: Quantity) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| sample.values.get(quantity).copied()).collect()
    }

    /// `None` for a contender that has failed, or does not have this quantity.
    pub(crate) fn spread(&self, quantity: Quantity) -> Option<Spread> {
        if self.failure().is_some() { None } else { Spread::of(&self.values(quantity)) }
    }

    fn value_in(&self, round: usize, quantity: Quantity) -> Option<f64> {
        self.samples.iter().find(|sample| sample.round == round)?.values.get(quantity).copied()
    }

    /// The median of the ratios to another contender, round by round: what drifts from round to round drifts for both.
    pub(crate) fn ratio_to(&self, other: &Self, quantity: Quantity) -> Option<f64> {
        if self.failure().or(other.failure()).is_some() {
            return None;
        }
        let ratio = |sample: &Sample| {
            let value = *sample.values.get(quantity)?;
            Some(value / other.value_in(sample.round, quantity)?)
        };
        median(&self.samples.iter().filter_map(ratio).collect::<Vec<_>>())
    }
}

/// What one contender should reach.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub(crate) contender: &'static str,
    pub(crate) quantity: Quantity,
    pub(crate) bound: Bound,
    /// Whom it is measured against: the best of these. None for an absolute number.
    pub(crate) others: Vec<&'static str>,
    /// How the others are called together.
    pub(crate) of: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A goal, looked at.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) text: String,
    /// `None` when somebody has failed who is needed for it.
    pub(crate) value: Option<f64>,
    pub(crate) reached: bool,
}

impl Goal {
    pub(crate) fn at_least(
        factor: f64,
        quantity: Quantity,
        of: &'static str,
        others: &[&'static str],
    ) -> Self {
        Self { contender: OURS, quantity, bound: Bound::AtLeast(factor), others: others.to_vec(), of }
    }

    pub(crate) fn at_most(
        factor: f64,
        quantity: Quantity,
        of: &'static str,
        others: &[&'static str],
    ) -> Self {
        Self { bound: Bound::AtMost(factor), ..Self::at_least(factor, quantity, of, others) }
    }

    /// The same goal for another contender than [`OURS`].
    pub(crate) fn of(self, contender: &'static str) -> Self {
        Self { contender, ..self }
    }
}

/// How this library is called in the tables.
pub(crate) const OURS: &str = "event-log";

impl Contest {
    pub(crate) fn new(name: impl Into<String>, title: impl Into<String>, main: Quantity) -> Self {
        Self { name: name.into(), title: title.into(), main, rows: Vec::new(), goals: Vec::new() }
    }

    pub(crate) fn row(&self, contender: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender == contender)
    }

    pub(crate) fn verdict(&self, goal: &Goal) -> Verdict {
        let row = self.row(goal.contender);
        let value = row.and_then(|row| {
            if goal.others.is_empty() {
                return row.spread(goal.quantity).map(|spread| spread.median);
            }
            let ratios = goal.others.iter().filter_map(|other| row.ratio_to(self.row(other)?, goal.quantity));
            // Against the best of them: the one that makes the ratio the worst.
            match goal.bound {
                Bound::AtLeast(_) => ratios.reduce(f64::min),
                Bound::AtMost(_) => ratios.reduce(f64::max),
            }
        });
        let (sign, bound) = match goal.bound {
            Bound::AtLeast(bound) => ("≥", bound),
            Bound::AtMost(bound) => ("≤", bound),
        };
        let reached = value.is_some_and(|value| match goal.bound {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
        });
        let (contender, quantity) = (goal.contender, goal.quantity);
        let text = if goal.others.is_empty() {
            format!("{contender}, {quantity}: {sign} {}", figure(bound))
        } else {
            format!("{contender}, {quantity}: {sign} {bound:.2} × {}", goal.of)
        };
        Verdict { text, value, reached }
    }

    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        self.goals.iter().map(|goal| self.verdict(goal)).collect()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| row.failure().is_some())
    }
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Among all turns of the contest.
    pub(crate) number: usize,
    pub(crate) round: usize,
    pub(crate) contender: usize,
}

/// All turns, round by round. Who begins moves on with every round, and every other round goes backwards, so that
/// nobody always follows the same one.
pub(crate) fn turns(rounds: usize, contenders: usize) -> impl Iterator<Item = Turn> {
    let order = move |round: usize| {
        (0..contenders).map(move |place| {
            let place = if round % 2 == 1 { contenders - 1 - place } else { place };
            (place + round) % contenders
        })
    };
    let turns = (0..rounds).flat_map(move |round| order(round).map(move |contender| (round, contender)));
    turns.enumerate().map(|(number, (round, contender))| Turn { number, round, contender })
}
