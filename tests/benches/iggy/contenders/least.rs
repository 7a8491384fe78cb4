//! The least that whoever takes typed events has to do: encode them and group them by the partitions of their keys. No
//! tasks, no ids, no receipts. The raw client does neither, so that its processor time is nobody's limit but its own.

use async_trait::async_trait;
use event_log_core::{Partitionable as _, partition_of};
use iggy::prelude::IggyMessage;

use super::Producer;
use crate::Failure;
use crate::bench::Bench;
use crate::event::{Event, PARTITIONS, enough_for};
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::Topic;

/// How this contender is called.
const LEAST: &str = "raw, encoding";

/// Events a second that are made ready: more than can be appended.
const MOST_PER_SECOND: u32 = 900_000;

/// So many events at a time, encoded, grouped and sent by one task over one connection.
pub(crate) struct Least {
    pub(crate) at_once: u64,
}

#[async_trait]
impl Producer for Least {
    fn name(&self) -> &'static str {
        LEAST
    }

    fn what(&self) -> &'static str {
        "the raw client, which encodes and groups the same typed events itself: no ids, no tasks, no receipts"
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let count = enough_for(watch.window(), MOST_PER_SECOND) / self.at_once + 1;
        let event = |number| bench.events.event(number);
        let ready: Vec<Vec<Event>> = (0..count)
            .map(|nth| (nth * self.at_once..(nth + 1) * self.at_once).map(event).collect())
            .collect();
        let mut ready = ready.into_iter();
        let mut appended = 0;
        let deadline = watch.start();
        while !deadline.is_over() {
            let Some(events) = ready.next() else { break };
            let mut groups = (0..PARTITIONS).map(|_| Vec::<IggyMessage>::new()).collect::<Vec<_>>();
            for event in events {
                let key = event.partition_key().unwrap_or_default();
                let partition = partition_of(key, PARTITIONS);
                let id = u128::from(event.number) + 1;
                let payload = serde_json::to_vec(&event)?.into();
                groups[partition.0 as usize].push(IggyMessage::builder().id(id).payload(payload).build()?);
            }
            for (partition, group) in (0..).zip(&mut groups) {
                bench.raw.send(topic, partition, group).await?;
            }
            appended += self.at_once;
        }
        watch.stop();
        Ok((0..appended).collect())
    }
}
