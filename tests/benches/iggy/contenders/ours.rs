//! This library.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use event_log_core::{EventLog as _, EventLogExt as _};

use super::{IN_FLIGHT, Producer, all_of, numbers_of};
use crate::Failure;
use crate::bench::Bench;
use crate::contest::OURS;
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::Topic;

const CLOSE: Duration = Duration::from_secs(10);

/// So many tasks, each of which awaits one receipt after the other.
pub(crate) struct Appends;

#[async_trait]
impl Producer for Appends {
    fn name(&self) -> &'static str {
        OURS
    }

    fn what(&self) -> &'static str {
        "append_acked by 1,024 tasks, typed events"
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let log = bench.open(topic).await?;
        let deadline = watch.start();
        let tasks = (0..IN_FLIGHT).map(|task| {
            let (log, events) = (log.clone(), Arc::clone(&bench.events));
            tokio::spawn(async move {
                let mut appended = 0;
                for number in numbers_of(task).take_while(|_| !deadline.is_over()) {
                    log.append_acked(events.event(number)).await?;
                    appended += 1;
                }
                Ok::<_, Failure>(appended)
            })
        });
        let appended = all_of(tasks.collect(), watch).await?;
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
        let mut appended = 0;
        let deadline = watch.start();
        while !deadline.is_over() {
            let batch = (appended..appended + self.events).map(|number| bench.events.event(number)).collect();
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
