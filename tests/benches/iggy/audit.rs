//! Whether everything that a contender says it has appended is in the log, once, and nothing else. Outside of what is
//! timed, and with the raw client: nobody is his own auditor.

use event_log_iggy::Durability;

use crate::Failure;
use crate::event::{EVENT_BYTES, Events, PARTITIONS, number_of};
use crate::numbers::Numbers;
use crate::topic::{Raw, Topic};

/// How many messages are read with one request: it is not timed, so that fewer requests are better.
const AT_ONCE: u32 = 10_000;

/// Reads the whole topic. `keyed` also wants each event in the partition of its key.
pub(crate) async fn audit(
    raw: &Raw,
    topic: &Topic,
    events: &Events,
    expected: &Numbers,
    keyed: bool,
) -> Result<(), Failure> {
    let mut found = Numbers::default();
    for partition in 0..PARTITIONS {
        let mut next = 0;
        loop {
            let polled = raw.poll(topic, partition, next, AT_ONCE).await?;
            let Some(last) = polled.messages.last() else { break };
            next = last.header.offset + 1;
            for message in &polled.messages {
                let number = number_of(&message.payload).ok_or("a message that is no event")?;
                if message.payload.len() != EVENT_BYTES {
                    return Err(format!("event {number} has {} bytes", message.payload.len()).into());
                }
                if !expected.contains(number) {
                    return Err(format!("event {number} is in the log, and was not confirmed").into());
                }
                if !found.insert(number) {
                    return Err(format!("event {number} is in the log twice").into());
                }
                if keyed && events.partition(number) != partition {
                    return Err(format!("event {number} is in partition {partition}").into());
                }
            }
        }
    }
    if found.len() == expected.len() {
        return Ok(());
    }
    Err(format!("{} of {} confirmed events are in the log", found.len(), expected.len()).into())
}

/// Nobody should trust an audit that was never seen to fail: what is missing, what is there twice, what was never
/// confirmed, and what is in the wrong partition.
pub(crate) async fn self_check(raw: &Raw, events: &Events) -> Result<(), Failure> {
    let topic = raw.create(Durability::Replicated).await?;
    let append =
        async |number: u64, partition: u32| raw.send(&topic, partition, &mut [events.message(number)?]).await;
    let check = async |numbers: &[u64], keyed| {
        let expected = numbers.iter().copied().collect();
        audit(raw, &topic, events, &expected, keyed).await.is_ok()
    };
    append(0, events.partition(0)).await?;
    append(1, (events.partition(1) + 1) % PARTITIONS).await?;
    let verdicts = [
        check(&[0, 1], false).await,
        !check(&[0, 1], true).await,
        !check(&[0, 1, 2], false).await,
        !check(&[0], false).await,
    ];
    append(0, events.partition(0)).await?;
    let finds_copies = !check(&[0, 1], false).await;
    raw.delete(&topic).await?;
    if finds_copies && verdicts.iter().all(|right| *right) {
        Ok(())
    } else {
        Err("the audit is wrong".into())
    }
}
