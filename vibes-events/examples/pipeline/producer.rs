//! Appends the input, and remembers what it has appended, for the check at the end.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use event_log_core::{AppendErrorKind, EventId, EventLog, EventLogExt, Partitionable, RawEvent, Receipt};
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use vibes_events::StoredOrBare;

use crate::args::Args;
use crate::input::{self, Line};
use crate::{EventsLog, Failure};

/// What has been appended.
#[derive(Debug, Default)]
pub(crate) struct Produced {
    /// Events in the input.
    pub(crate) events: u64,
    pub(crate) acknowledged: u64,
    pub(crate) not_appended: u64,
    pub(crate) unknown: u64,
    pub(crate) parked: u64,
    pub(crate) per_partition: Vec<u64>,
    /// The ids of each session's events in the order in which they were appended.
    pub(crate) sessions: HashMap<String, Vec<EventId>>,
}

/// Lines that are appended in one go at most. There is no lingering: what is there goes.
const BATCH: usize = 512;

pub(crate) async fn run(
    args: &Args,
    log: &EventsLog,
    parking: &Arc<dyn EventLog<RawEvent>>,
    progress: &ProgressBar,
) -> Result<Produced, Failure> {
    // Reading blocks, so that it goes to a thread that may.
    let (sender, mut receiver) = mpsc::channel(2 * BATCH);
    let reader = tokio::task::spawn_blocking({
        let input = args.input.clone();
        move || -> io::Result<()> {
            for line in input::lines(&input)? {
                if sender.blocking_send(line?).is_err() {
                    break;
                }
            }
            Ok(())
        }
    });
    let mut parked_file = args.parked.as_ref().map(std::fs::File::create).transpose()?;
    let partitions = log.watermarks().await?.partitions();
    let mut produced = Produced { per_partition: vec![0; partitions as usize], ..Produced::default() };
    let mut lines = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut lines, BATCH).await > 0 {
        let mut batch = Vec::with_capacity(lines.len());
        for line in lines.drain(..) {
            match line {
                Line::Event(event) => batch.push(event),
                Line::Malformed { number, text, reason } => {
                    progress.suspend(|| eprintln!("line {number}: {reason}"));
                    if let Some(file) = &mut parked_file {
                        file.write_all(&text)?;
                        file.write_all(b"\n")?;
                    }
                    parking.append_acked(RawEvent::new(format!("line {number}"), text)).await?;
                    produced.parked += 1;
                }
            }
        }
        progress.inc(batch.len() as u64);
        produced.append(log, batch).await;
    }
    reader.await??;
    Ok(produced)
}

impl Produced {
    async fn append(&mut self, log: &EventsLog, batch: Vec<StoredOrBare>) {
        self.events += batch.len() as u64;
        let sessions: Vec<_> = batch.iter().map(|event| event.partition_key().map(str::to_owned)).collect();
        let outcomes = match log.append_batch(batch).await {
            Ok(receipts) => receipts.into_iter().map(Ok).collect(),
            Err(error) => error.into_outcomes(),
        };
        for (session, outcome) in sessions.into_iter().zip(outcomes) {
            let outcome = match outcome {
                Ok(receipt) => Receipt::acked(receipt).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(ack) => {
                    self.acknowledged += 1;
                    self.per_partition[ack.partition.0 as usize] += 1;
                    if let Some(session) = session {
                        self.sessions.entry(session).or_default().push(ack.id);
                    }
                }
                Err(error) if matches!(error.kind(), AppendErrorKind::Unknown(_)) => self.unknown += 1,
                Err(error) => {
                    eprintln!("not appended: {error}");
                    self.not_appended += 1;
                }
            }
        }
    }
}
