//! What became of every event.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use event_log_core::EventId;
use serde::Serialize;

use crate::groups::{Assessment, Firehose, Notifications, Read, Session};
use crate::producer::Produced;

#[derive(Debug, Serialize)]
pub(crate) struct GroupLag {
    pub(crate) group: &'static str,
    /// Distance in offsets.
    pub(crate) offsets: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    events: u64,
    acknowledged: u64,
    not_appended: u64,
    unknown: u64,
    dropped: u64,
    parked: u64,
    undecodable: u64,
    sessions: usize,
    sessions_in_order: usize,
    per_partition: Vec<u64>,
    appended_per_second: u64,
    elapsed_ms: u64,
    read: Vec<GroupRead>,
    lag: Vec<GroupLag>,
    notifications: Notifications,
    totals: Session,
    notices: Vec<String>,
    #[serde(skip)]
    last: Vec<String>,
}

#[derive(Debug, Serialize)]
struct GroupRead {
    group: &'static str,
    records: u64,
}

impl Report {
    #[expect(clippy::too_many_arguments, reason = "it is where everything comes together")]
    pub(crate) fn new(
        produced: Produced,
        appended_in: Duration,
        elapsed: Duration,
        dropped: u64,
        lag: Vec<GroupLag>,
        firehose: &Read<Firehose>,
        notifications: Read<Notifications>,
        assessment: &Read<Assessment>,
    ) -> Self {
        let read = vec![
            GroupRead { group: "firehose", records: firehose.records },
            GroupRead { group: "notifications", records: notifications.records },
            GroupRead { group: "assessment", records: assessment.records },
        ];
        let totals = assessment.handler.sessions.values().fold(Session::default(), |sum, session| Session {
            turns: sum.turns + session.turns,
            tools: sum.tools + session.tools,
            errors: sum.errors + session.errors,
            tokens: sum.tokens + session.tokens,
        });
        let mut notices = firehose.notices.clone();
        notices.extend(notifications.notices);
        notices.extend(assessment.notices.iter().cloned());
        Self {
            events: produced.events,
            acknowledged: produced.acknowledged,
            not_appended: produced.not_appended,
            unknown: produced.unknown,
            dropped,
            parked: produced.parked,
            undecodable: assessment.undecodable,
            sessions: produced.sessions.len(),
            sessions_in_order: in_order(&produced.sessions, &assessment.handler.order),
            appended_per_second: (produced.events as f64 / appended_in.as_secs_f64()) as u64,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            per_partition: produced.per_partition,
            read,
            lag,
            notifications: notifications.handler,
            totals,
            notices,
            last: firehose.handler.last.iter().cloned().collect(),
        }
    }

    /// Nothing was lost: every event is in the log, and was read by every group, each session in order.
    pub(crate) fn is_whole(&self) -> bool {
        self.acknowledged == self.events
            && self.undecodable == 0
            && self.sessions_in_order == self.sessions
            && self.read.iter().all(|group| group.records >= self.acknowledged)
            && self.lag.iter().all(|group| group.offsets == 0)
    }
}

/// In how many sessions exactly the appended events were read, in the order in which they were appended.
/// What was in the log before is passed over.
fn in_order(appended: &HashMap<String, Vec<EventId>>, read: &HashMap<String, Vec<EventId>>) -> usize {
    let same = |(session, ids): &(&String, &Vec<EventId>)| {
        read.get(*session).is_some_and(|read| read.ends_with(ids))
    };
    appended.iter().filter(same).count()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the last lines of the firehose")?;
        for line in &self.last {
            writeln!(f, "  {line}")?;
        }
        let spread: Vec<_> = self.per_partition.iter().map(u64::to_string).collect();
        let read: Vec<_> = self.read.iter().map(|read| format!("{} {}", read.group, read.records)).collect();
        let lag: Vec<_> = self.lag.iter().map(|lag| format!("{} {}", lag.group, lag.offsets)).collect();
        let Notifications { permission_requests, errors, finished_sessions } = self.notifications;
        let Session { turns, tools, errors: failures, tokens } = self.totals;
        let rows = [
            (
                "events",
                format!("{} in {} ms, {}/s appended", self.events, self.elapsed_ms, self.appended_per_second),
            ),
            ("acknowledged", self.acknowledged.to_string()),
            ("not appended", format!("{}, of them dropped {}", self.not_appended, self.dropped)),
            ("unknown", self.unknown.to_string()),
            ("malformed lines", format!("{} parked", self.parked)),
            ("partitions", format!("{}: {}", self.per_partition.len(), spread.join(" "))),
            ("read", read.join(", ")),
            ("undecodable", self.undecodable.to_string()),
            ("lag", lag.join(", ")),
            (
                "notifications",
                format!(
                    "{permission_requests} permission requests, {errors} errors, {finished_sessions} finished"
                ),
            ),
            ("assessment", format!("{turns} turns, {tools} tools, {failures} errors, {tokens} tokens")),
            ("sessions in order", format!("{} of {}", self.sessions_in_order, self.sessions)),
        ];
        writeln!(f)?;
        for (name, value) in rows {
            writeln!(f, "{name:<18} {value}")?;
        }
        for notice in &self.notices {
            writeln!(f, "notice             {notice}")?;
        }
        writeln!(f, "{:<18} {}", "verdict", if self.is_whole() { "nothing lost" } else { "INCOMPLETE" })
    }
}
