//! This library.

use std::time::Duration;

use async_trait::async_trait;
use event_log_core::{EventLog as _, EventLogExt as _};

use super::{IN_FLIGHT, Producer, events_by_task, numbers_of};
use crate::Failure;
use crate::bench::Bench;
use crate::contest::OURS;
use crate::event::{Event, enough_for};
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::Topic;

/// Events a second that are made ready: more than can be appended.
const MOST_PER_SECOND: u32 = 900_000;

const CLOSE: Duration = Duration::from_secs(10);

/// So many tasks, each of which awaits one receipt after the other.
pub(crate) struct Appends;

#[async_trait]
impl Producer for Appends {
    fn name(&self) -> &'static str {
        OURS
    }

    fn what(&self) -> &'static str {
        "append_committed by 1,024 tasks, typed events"
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let log = bench.open(topic).await?;
        let each = enough_for(watch.window(), MOST_PER_SECOND) / IN_FLIGHT + 1;
        let ready = events_by_task(bench, each);
        let deadline = watch.start();
        let tasks = ready.into_iter().map(|events| {
            let log = log.clone();
            tokio::spawn(async move {
                let (mut events, mut appended) = (events.into_iter(), 0);
                while !deadline.is_over() {
                    let Some(event) = events.next() else { break };
                    log.append_committed(event).await?;
                    appended += 1;
                }
                // What is left is dropped by whoever gets it: after the watch has stopped.
                Ok::<_, Failure>((appended, events))
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut ended = Vec::with_capacity(tasks.len());
        for task in tasks {
            ended.push(task.await?);
        }
        watch.stop();
        let mut appended = Numbers::default();
        for (task, ended) in (0..).zip(ended) {
            for number in numbers_of(task, each).take(ended?.0) {
                appended.insert(number);
            }
        }
        log.close(CLOSE).await.map_err(|_| "events were left over")?;
        Ok(appended)
    }
}

/// One batch after the other.
pub(crate) struct Batches {
    pub(crate) events: u64,
}

#[async_trait]
impl Producer for Batches {
    fn name(&self) -> &'static str {
        OURS
    }

    fn what(&self) -> &'static str {
        "append_batch of 1,000 typed events"
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let log = bench.open(topic).await?;
        let count = enough_for(watch.window(), MOST_PER_SECOND) / self.events + 1;
        let batch = |nth: u64| nth * self.events..(nth + 1) * self.events;
        let ready: Vec<Vec<Event>> =
            (0..count).map(|nth| batch(nth).map(|number| bench.events.event(number)).collect()).collect();
        let mut ready = ready.into_iter();
        let mut appended = 0;
        let deadline = watch.start();
        while !deadline.is_over() {
            let Some(batch) = ready.next() else { break };
            let receipts = log.append_batch(batch).await?;
            if receipts.iter().any(|receipt| receipt.is_buffered()) {
                return Err("the connection was lost".into());
            }
            appended += self.events;
        }
        watch.stop();
        log.close(CLOSE).await.map_err(|_| "events were left over")?;
        Ok((0..appended).collect())
    }
}
