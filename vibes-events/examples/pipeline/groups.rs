//! The three groups that read along. Each is a loop of poll, handle, commit; only the handling differs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use event_log_core::{Cursor, EventConsumer, EventId, Notice, Record};
use serde::Serialize;
use tokio::sync::watch;
use vibes_events::{ClaudeEvent, HookEvent, StoredOrBare, VibesEvent};

use crate::Failure;

/// What a group does with a record.
pub(crate) trait Handler: Send + 'static {
    fn handle(&mut self, record: &Record<StoredOrBare>);
}

/// What a group has read.
#[derive(Debug)]
pub(crate) struct Read<H> {
    pub(crate) handler: H,
    pub(crate) records: u64,
    pub(crate) undecodable: u64,
    /// Everything that was not a record and that somebody should know.
    pub(crate) notices: Vec<String>,
}

/// Reads until everything before `end` has been handled and committed, once it is known where the end is.
///
/// Waiting for the end and polling race: dropping the poll loses nothing.
pub(crate) async fn follow<H: Handler>(
    mut consumer: Box<dyn EventConsumer<StoredOrBare>>,
    handler: H,
    mut end: watch::Receiver<Option<Cursor>>,
) -> Result<Read<H>, Failure> {
    let mut read = Read { handler, records: 0, undecodable: 0, notices: Vec::new() };
    loop {
        let known_end = end.borrow_and_update().clone();
        if known_end.is_some_and(|end| has_reached(consumer.position(), &end)) {
            return Ok(read);
        }
        let batch = tokio::select! {
            batch = consumer.poll(500, Duration::from_secs(60)) => batch?,
            changed = end.changed() => {
                changed?;
                continue;
            }
        };
        for record in &batch {
            read.records += 1;
            read.undecodable += u64::from(record.event.is_err());
            read.handler.handle(record);
        }
        read.notices.extend(batch.notices.iter().filter_map(describe));
        // Only what has been handled: a crash above this line reads it again.
        consumer.commit(batch.cursor()).await?;
    }
}

fn has_reached(position: &Cursor, end: &Cursor) -> bool {
    end.iter().all(|(partition, end)| position.get(partition).is_none_or(|next| next >= end))
}

fn describe(notice: &Notice) -> Option<String> {
    match notice {
        Notice::Missing { partition, from, resumed_at } => {
            Some(format!("partition {partition}: gone before they were read: {from} to {resumed_at}"))
        }
        Notice::Truncated { partition, from, resumed_at } => {
            Some(format!("partition {partition}: ends before {from} now, read on from {resumed_at}"))
        }
        Notice::Fault { partition, error } => Some(format!("partition {partition}: {error}")),
        Notice::Duplicate { position, first, .. } => Some(format!("{position} is a copy of {first}")),
        _ => None,
    }
}

/// The last lines.
#[derive(Debug, Default)]
pub(crate) struct Firehose {
    pub(crate) last: VecDeque<String>,
}

const LAST_LINES: usize = 5;

impl Handler for Firehose {
    fn handle(&mut self, record: &Record<StoredOrBare>) {
        let line = match &record.event {
            Ok(event) => {
                let event = event.event();
                let session = event.session_id().unwrap_or("-");
                format!("{:>6}  {session:<12} {}", record.position.to_string(), event.event_type())
            }
            Err(undecodable) => {
                format!("{:>6}  undecodable: {}", record.position.to_string(), undecodable.error)
            }
        };
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

/// What somebody should look at.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Notifications {
    pub(crate) permission_requests: u64,
    pub(crate) errors: u64,
    pub(crate) finished_sessions: u64,
}

impl Handler for Notifications {
    fn handle(&mut self, record: &Record<StoredOrBare>) {
        let Ok(event) = &record.event else { return };
        match event.event() {
            VibesEvent::Claude { event: ClaudeEvent::PermissionRequest { .. }, .. }
            | VibesEvent::Hook { event: HookEvent::PermissionRequest { .. }, .. } => {
                self.permission_requests += 1;
            }
            VibesEvent::Claude { event: ClaudeEvent::Error { .. }, .. } => self.errors += 1,
            VibesEvent::SessionRemoved { .. } => self.finished_sessions += 1,
            _ => {}
        }
    }
}

/// How each session went, and the order in which its events were read.
#[derive(Debug, Default)]
pub(crate) struct Assessment {
    pub(crate) sessions: BTreeMap<String, Session>,
    pub(crate) order: HashMap<String, Vec<EventId>>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Session {
    pub(crate) turns: u64,
    pub(crate) tools: u64,
    pub(crate) errors: u64,
    pub(crate) tokens: u64,
}

impl Handler for Assessment {
    fn handle(&mut self, record: &Record<StoredOrBare>) {
        let Ok(event) = &record.event else { return };
        let Some(id) = event.event().session_id() else { return };
        self.order.entry(id.to_owned()).or_default().push(record.id);
        let session = self.sessions.entry(id.to_owned()).or_default();
        let VibesEvent::Claude { event, .. } = event.event() else { return };
        match event {
            ClaudeEvent::TurnComplete { usage } => {
                session.turns += 1;
                session.tokens += u64::from(usage.input_tokens) + u64::from(usage.output_tokens);
            }
            ClaudeEvent::ToolUseStart { .. } => session.tools += 1,
            ClaudeEvent::Error { .. } => session.errors += 1,
            _ => {}
        }
    }
}
