//! Reading a partition, and what an answer says about it.
//!
//! A poll says less than it seems to. An empty answer may mean the end, or that the server could not read; an offset
//! that is no longer retained is passed over without a word; and of a partition that was purged, and so begins again
//! at 0, an offset from before is simply beyond the end. Each of them is told from the others here, by asking once
//! more, and only when something is odd: reading on costs one round trip.

use event_log_core::engine::FetchResponse;
use event_log_core::{EventId, Offset, PartitionId, PartitionWatermarks, Watermarks};

use crate::sdk::{CallError, Client, From, PartitionStats, TopicDetails};

/// Reads at most `count` records from `from` on.
pub(crate) async fn read(
    client: &Client,
    partition: PartitionId,
    from: Offset,
    count: u32,
) -> Result<FetchResponse, CallError> {
    let polled = client.poll(partition, From::Offset(from), count).await?;
    let (Some(first), Some(last)) = (polled.records.first(), polled.records.last()) else {
        return nothing_came(client, partition, from, polled.last).await;
    };
    // A gap, or retention: what is the earliest?
    let low = if first.offset == from { None } else { earliest(client, partition).await? };
    let high = Some(polled.last.max(last.offset).next());
    Ok(FetchResponse { records: polled.records, low, high, truncated: false })
}

/// Reads on from behind a record that was read before, and looks whether it is still there: with one record more, and
/// without a request more, it is certain that nothing has begun again.
pub(crate) async fn read_on(
    client: &Client,
    partition: PartitionId,
    (at, id): (Offset, EventId),
    count: u32,
) -> Result<FetchResponse, CallError> {
    let mut fetched = read(client, partition, at, count.saturating_add(1)).await?;
    if fetched.records.first().is_some_and(|first| first.offset == at) {
        let first = fetched.records.remove(0);
        fetched.truncated = first.id != id;
    }
    // That the known record is gone is no loss.
    fetched.low = fetched.low.filter(|&low| low > at.next());
    Ok(fetched)
}

async fn nothing_came(
    client: &Client,
    partition: PartitionId,
    from: Offset,
    last: Offset,
) -> Result<FetchResponse, CallError> {
    let empty = |low, high| Ok(FetchResponse { records: Vec::new(), low, high, truncated: false });
    // The last offset is 0 also where there is none, and where the server could not say.
    let end = if last == Offset::ZERO { None } else { Some(last.next()) };
    if end == Some(from) || (end.is_none() && from == Offset::ZERO) {
        return empty(None, end);
    }
    if let Some(end) = end.filter(|&end| end > from) {
        // It has more, and does not return it: because retention has taken all of it, or because it could not.
        let topic = client.topic().await?;
        let stats = topic.and_then(|topic| topic.partitions.get(partition.0 as usize).copied());
        let is_gone = stats.is_some_and(|stats| stats.messages == 0 && stats.high >= end);
        return empty(is_gone.then_some(end), Some(end));
    }
    // It seems to end before `from`. Only a partition that can be read says so for certain.
    let first = client.poll(partition, From::First, 1).await?;
    empty(None, first.records.first().map(|first_record| first.last.max(first_record.offset).next()))
}

/// The earliest offset of a partition, `None` when it has none or cannot be read.
async fn earliest(client: &Client, partition: PartitionId) -> Result<Option<Offset>, CallError> {
    let first = client.poll(partition, From::First, 1).await?;
    Ok(first.records.first().map(|record| record.offset))
}

/// The retained range of every partition.
pub(crate) async fn watermarks(client: &Client, topic: &TopicDetails) -> Result<Watermarks, CallError> {
    let mut marks = Vec::with_capacity(topic.partitions.len());
    for (stats, partition) in topic.partitions.iter().zip(0..) {
        marks.push(partition_watermarks(client, PartitionId(partition), *stats).await?);
    }
    Ok(Watermarks::new(marks))
}

/// The retained range of one partition. The server says where it ends and how much there is; where it begins
/// follows from that, or has to be read.
pub(crate) async fn partition_watermarks(
    client: &Client,
    partition: PartitionId,
    stats: PartitionStats,
) -> Result<PartitionWatermarks, CallError> {
    let high = stats.high;
    let low = match stats.messages {
        0 => high,
        // One for every offset that there ever was.
        messages if messages == high.0 => Offset::ZERO,
        _ => earliest(client, partition).await?.unwrap_or(high).min(high),
    };
    Ok(PartitionWatermarks { low, high })
}
