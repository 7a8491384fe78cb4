//! The least that whoever takes typed events has to do: encode them and group them by the partitions of their keys. No
//! tasks, no ids, no receipts. The raw client does neither, so that its processor time is nobody's limit but its own.

use async_trait::async_trait;
use event_log_core::partition_of;
use iggy::prelude::IggyMessage;

use super::Producer;
use crate::Failure;
use crate::bench::Bench;
use crate::event::PARTITIONS;
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::Topic;

/// So many events at a time, encoded, grouped and sent by one task over one connection.
pub(crate) struct Least {
    pub(crate) at_once: u64,
}

#[async_trait]
impl Producer for Least {
    fn name(&self) -> &'static str {
        "raw, encoding"
    }

    fn what(&self) -> &'static str {
        "the raw client, which encodes and groups the same typed events itself: no ids, no tasks, no receipts"
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let mut appended = 0;
        let deadline = watch.start();
        while !deadline.is_over() {
            let mut groups = (0..PARTITIONS).map(|_| Vec::<IggyMessage>::new()).collect::<Vec<_>>();
            for number in appended..appended + self.at_once {
                let partition = partition_of(bench.events.key(number), PARTITIONS);
                groups[partition.0 as usize].push(bench.events.message(number)?);
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
