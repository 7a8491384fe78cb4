//! The JSON: every sample of every contender, and what they depend on.

use serde_json::{Value, json};

use crate::contest::{Contest, Row};
use crate::environment::Environment;
use crate::stats::{Spread, micros};

/// Changes when what reads it has to change.
const VERSION: u32 = 1;

pub(super) fn report(environment: &Environment, contests: &[Contest]) -> Value {
    json!({
        "version": VERSION,
        "environment": environment,
        "contests": contests.iter().map(contest).collect::<Vec<_>>(),
    })
}

fn contest(contest: &Contest) -> Value {
    let goals = contest
        .verdicts()
        .into_iter()
        .map(|verdict| json!({ "goal": verdict.text, "value": verdict.value, "reached": verdict.reached }));
    json!({
        "name": contest.name,
        "title": contest.title,
        "quantity": contest.main,
        "contenders": contest.rows.iter().map(|one| row(contest, one)).collect::<Vec<_>>(),
        "goals": goals.collect::<Vec<_>>(),
    })
}

fn row(contest: &Contest, row: &Row) -> Value {
    let spread = row.spread(contest.main).map(|Spread { min, lower_quartile, median, upper_quartile, max }| {
        json!({ "min": min, "q1": lower_quartile, "median": median, "q3": upper_quartile, "max": max })
    });
    let samples = row
        .samples
        .iter()
        .map(|sample| json!({ "round": sample.round, "values": sample.values, "failure": sample.failure }));
    let latencies = row.latencies.as_ref().map(|latencies| {
        let quantiles = [0.5, 0.9, 0.99, 0.999, 1.0].map(|q| (q.to_string(), micros(latencies, q)));
        json!({ "count": latencies.len(), "quantiles_us": quantiles.into_iter().collect::<std::collections::BTreeMap<_, _>>() })
    });
    json!({
        "name": row.contender,
        "what": row.what,
        "audit": row.failure().map_or("passed", |_| "failed"),
        "spread": spread,
        "samples": samples.collect::<Vec<_>>(),
        "latencies": latencies,
    })
}
