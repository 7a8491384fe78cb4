//! The SDK's own producer, as one would use it: at its defaults, and tuned.
//!
//! It keeps the order of a key only if the key decides the partition, and in the background it confirms nothing: there
//! is no receipt, and whoever wants to know has to end it.

use std::sync::Arc;

use async_trait::async_trait;
use iggy::prelude::{BackgroundConfig, DirectConfig, IggyClient, IggyMessage, IggyProducer, Partitioning};

use super::raw::grouped;
use super::{IN_FLIGHT, Producer};
use crate::Failure;
use crate::bench::Bench;
use crate::event::{SESSIONS, enough_for};
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::{TOPIC, Topic, sdk_client};

/// Direct, at the defaults: a task for each event that is under way, as one writes it.
pub(crate) struct Direct;
/// Direct, with `nodelay`, and with 1,024 events grouped by hand.
pub(crate) struct DirectTuned;
/// Direct, with `nodelay`, a thousand events at a time and no keys.
pub(crate) struct DirectUnkeyed;
/// In the background, at the defaults: one event after the other is handed over.
pub(crate) struct Background;
/// In the background, with `nodelay`, and with 8,192 events at a time grouped by hand.
pub(crate) struct BackgroundTuned;

/// Those that do what this library does: keep the keys together, and know when an event is in the log.
pub(crate) const EQUALS: &[&str] = &["producer, direct", "producer, direct, tuned"];
/// All of them.
pub(crate) const ALL: &[&str] = &[
    "producer, direct",
    "producer, direct, tuned",
    "producer, direct, no keys",
    "producer, background",
    "producer, background, tuned",
];

async fn direct(client: &IggyClient, topic: &Topic, batch: u32) -> Result<IggyProducer, Failure> {
    let config = DirectConfig::builder().batch_length(batch).build();
    let producer = client.producer(&topic.name, TOPIC)?.direct(config).build();
    producer.init().await?;
    Ok(producer)
}

async fn background(
    client: &IggyClient,
    topic: &Topic,
    config: BackgroundConfig,
) -> Result<IggyProducer, Failure> {
    let producer = client.producer(&topic.name, TOPIC)?.background(config).build();
    producer.init().await?;
    Ok(producer)
}

#[async_trait]
impl Producer for Direct {
    fn name(&self) -> &'static str {
        "producer, direct"
    }

    fn what(&self) -> &'static str {
        "IggyProducer, direct, defaults: send by 1,024 tasks, each awaiting its confirmation"
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let client = sdk_client(&bench.server.endpoint(), false).await?;
        let producer = Arc::new(direct(&client, topic, 1_000).await?);
        let keys = (0..SESSIONS as u64).map(|session| {
            Ok::<_, Failure>(Arc::new(Partitioning::messages_key_str(bench.events.key(session))?))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let each = enough_for(watch.window(), 40_000) / IN_FLIGHT + 1;
        let numbers = |task: u64| (0..each).map(move |nth| task + nth * IN_FLIGHT);
        let mut ready = Vec::new();
        for task in 0..IN_FLIGHT {
            ready.push((Arc::clone(&keys[task as usize % SESSIONS]), bench.events.messages(numbers(task))?));
        }
        let deadline = watch.start();
        let tasks = ready.into_iter().map(|(key, messages)| {
            let producer = Arc::clone(&producer);
            tokio::spawn(async move {
                let (mut messages, mut sent) = (messages.into_iter(), 0);
                while !deadline.is_over() {
                    let Some(message) = messages.next() else { break };
                    producer.send_with_partitioning(vec![message], Some(Arc::clone(&key))).await?;
                    sent += 1;
                }
                Ok::<usize, Failure>(sent)
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut sent = Numbers::default();
        let mut ended = Vec::new();
        for task in tasks {
            ended.push(task.await?);
        }
        watch.stop();
        for (task, ended) in (0..).zip(ended) {
            for number in numbers(task).take(ended?) {
                sent.insert(number);
            }
        }
        Ok(sent)
    }
}

/// Messages with their partition and numbers, as [`grouped`] makes them, ready for the producer.
type Group = (Arc<Partitioning>, Vec<IggyMessage>, Vec<u64>);

fn groups(bench: &Bench, count: u64, at_once: u64) -> Result<Vec<Group>, Failure> {
    let requests = grouped(&bench.events, count, at_once)?.into_iter();
    let group = requests.map(|request| {
        let to = Arc::new(Partitioning::partition_id(request.partition));
        (to, request.messages, request.numbers)
    });
    Ok(group.collect())
}

#[async_trait]
impl Producer for DirectTuned {
    fn name(&self) -> &'static str {
        "producer, direct, tuned"
    }

    fn what(&self) -> &'static str {
        "IggyProducer, direct, nodelay: 1,024 events grouped by hand, each group awaited"
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let client = sdk_client(&bench.server.endpoint(), true).await?;
        let producer = direct(&client, topic, 1_024).await?;
        let ready = groups(bench, enough_for(watch.window(), 800_000), IN_FLIGHT)?;
        let mut confirmed = Vec::with_capacity(ready.len());
        let deadline = watch.start();
        for (to, messages, numbers) in ready {
            if deadline.is_over() {
                break;
            }
            producer.send_with_partitioning(messages, Some(to)).await?;
            confirmed.push(numbers);
        }
        watch.stop();
        Ok(confirmed.into_iter().flatten().collect())
    }
}

#[async_trait]
impl Producer for DirectUnkeyed {
    fn name(&self) -> &'static str {
        "producer, direct, no keys"
    }

    fn what(&self) -> &'static str {
        "IggyProducer, direct, nodelay: whole thousands, balanced; keys are not kept together"
    }

    fn keeps_keys(&self) -> bool {
        false
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let client = sdk_client(&bench.server.endpoint(), true).await?;
        let producer = direct(&client, topic, 1_000).await?;
        let count = enough_for(watch.window(), 1_000_000) / 1_000 + 1;
        let batch = |nth: u64| bench.events.messages(nth * 1_000..(nth + 1) * 1_000);
        let mut ready = (0..count).map(batch).collect::<Result<Vec<_>, _>>()?.into_iter();
        let mut sent = 0;
        let deadline = watch.start();
        while !deadline.is_over() {
            let Some(messages) = ready.next() else { break };
            producer.send(messages).await?;
            sent += 1_000;
        }
        watch.stop();
        Ok((0..sent).collect())
    }
}

#[async_trait]
impl Producer for Background {
    fn name(&self) -> &'static str {
        "producer, background"
    }

    fn what(&self) -> &'static str {
        "IggyProducer, background, defaults: one event after the other; no keys, no receipts, more under way"
    }

    fn keeps_keys(&self) -> bool {
        false
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let client = sdk_client(&bench.server.endpoint(), false).await?;
        let producer = background(&client, topic, BackgroundConfig::builder().build()).await?;
        let ready = bench.events.messages(0..enough_for(watch.window(), 800_000))?;
        let (mut ready, mut sent) = (ready.into_iter(), 0);
        let deadline = watch.start();
        while !deadline.is_over() {
            let Some(message) = ready.next() else { break };
            producer.send_one(message).await?;
            sent += 1;
        }
        // What is queued counts when it is in the log.
        producer.shutdown().await;
        watch.stop();
        Ok((0..sent).collect())
    }
}

#[async_trait]
impl Producer for BackgroundTuned {
    fn name(&self) -> &'static str {
        "producer, background, tuned"
    }

    fn what(&self) -> &'static str {
        "IggyProducer, background, nodelay: 8,192 events grouped by hand; no receipts, more under way"
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let client = sdk_client(&bench.server.endpoint(), true).await?;
        // A group is a request: it does not wait for others.
        let config = BackgroundConfig::builder().batch_length(1).batch_size(0).build();
        let producer = background(&client, topic, config).await?;
        let ready = groups(bench, enough_for(watch.window(), 1_000_000), 8 * IN_FLIGHT)?;
        let mut sent = Vec::with_capacity(ready.len());
        let deadline = watch.start();
        for (to, messages, numbers) in ready {
            if deadline.is_over() {
                break;
            }
            producer.send_with_partitioning(messages, Some(to)).await?;
            sent.push(numbers);
        }
        producer.shutdown().await;
        watch.stop();
        Ok(sent.into_iter().flatten().collect())
    }
}
