//! Reading a partition, and what an answer says about it.
//!
//! A poll says less than it seems to. An empty answer may mean the end, or that the server could not read; an offset
//! that is no longer retained is passed over without a word; and of a partition that was purged, and so begins again
//! at 0, an offset from before is simply beyond the end. Each of them is told from the others here, by asking once
//! more, and only when something is odd: reading on costs one round trip.

use event_log_core::engine::{FetchRequest, FetchResponse, Landmark};
use event_log_core::{Offset, PartitionId, PartitionWatermarks};

use crate::sdk::{CallError, Client, PartitionStats, ReadFrom};
use crate::shared::Shared;

/// Answers a fetch. What the answer shows of the partition (where it ends, how long its records are) is shared.
pub(crate) async fn fetch(
    shared: &Shared,
    client: &Client,
    request: FetchRequest,
) -> Result<FetchResponse, CallError> {
    let FetchRequest { partition, from, after, max_records, max_bytes } = request;
    let before = shared.ends.end(partition);
    let most = u32::try_from(max_records).unwrap_or(u32::MAX).max(1);
    let count = shared.sizes.records_within(partition, max_bytes).min(most);
    let mut fetched = match after {
        Some(after) if after.offset.next() == from => read_on(client, partition, after, count).await?,
        Some(after) => {
            let mut fetched = read(client, partition, from, count).await?;
            // Afterwards: records that were read before the partition was truncated are still what it had.
            fetched.truncated = !is_there(client, partition, after).await?;
            fetched
        }
        None => read(client, partition, from, count).await?,
    };
    if let Some(end) = fetched.high {
        shared.ends.observe(partition, before, end, end);
    }
    shared.sizes.observe(partition, &fetched.records);
    within(&mut fetched, max_records, max_bytes);
    Ok(fetched)
}

/// Cuts what is more than so many records or bytes, but for the first record. It is fetched again.
fn within(fetched: &mut FetchResponse, max_records: usize, max_bytes: usize) {
    fetched.records.truncate(max_records);
    let mut bytes = 0_usize;
    let fits = fetched.records.iter().take_while(|record| {
        bytes = bytes.saturating_add(record.bytes());
        bytes <= max_bytes
    });
    let fits = fits.count().max(1);
    fetched.records.truncate(fits);
}

/// Reads at most `count` records from `from` on.
async fn read(
    client: &Client,
    partition: PartitionId,
    from: Offset,
    count: u32,
) -> Result<FetchResponse, CallError> {
    let polled = client.poll(partition, ReadFrom::Offset(from), count).await?;
    let (Some(first), Some(last)) = (polled.records.first(), polled.records.last()) else {
        return nothing_came(client, partition, from, polled.last).await;
    };
    // A gap, or retention: what is the earliest?
    let low = if first.offset == from { None } else { earliest(client, partition).await? };
    let high = Some(polled.last.max(last.offset).next());
    Ok(FetchResponse { records: polled.records, low, high, ..FetchResponse::default() })
}

/// Reads on from behind a record that was read before, and looks whether it is still there: with one record more, and
/// without a request more, it is certain that nothing has begun again.
async fn read_on(
    client: &Client,
    partition: PartitionId,
    after: Landmark,
    count: u32,
) -> Result<FetchResponse, CallError> {
    let mut fetched = read(client, partition, after.offset, count.saturating_add(1)).await?;
    if fetched.records.first().is_some_and(|first| first.offset == after.offset) {
        let first = fetched.records.remove(0);
        fetched.truncated = first.id != after.id;
    }
    // That the known record is gone is no loss.
    fetched.low = fetched.low.filter(|&low| low > after.offset.next());
    Ok(fetched)
}

/// Whether the record is where it was, or its offset is not retained.
async fn is_there(client: &Client, partition: PartitionId, record: Landmark) -> Result<bool, CallError> {
    let polled = client.poll(partition, ReadFrom::Offset(record.offset), 1).await?;
    let found = polled.records.first().filter(|found| found.offset == record.offset);
    Ok(found.is_none_or(|found| found.id == record.id))
}

async fn nothing_came(
    client: &Client,
    partition: PartitionId,
    from: Offset,
    last: Offset,
) -> Result<FetchResponse, CallError> {
    let empty = |low, high| Ok(FetchResponse { low, high, ..FetchResponse::default() });
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
    let first = client.poll(partition, ReadFrom::First, 1).await?;
    empty(None, first.records.first().map(|first_record| first.last.max(first_record.offset).next()))
}

/// The earliest offset of a partition, `None` when it has none or cannot be read.
async fn earliest(client: &Client, partition: PartitionId) -> Result<Option<Offset>, CallError> {
    let first = client.poll(partition, ReadFrom::First, 1).await?;
    Ok(first.records.first().map(|record| record.offset))
}

/// The retained range of one partition. The server says where it ends and how much there is; where it begins
/// follows from that, or has to be read.
pub(crate) async fn partition_watermarks(
    shared: &Shared,
    partition: PartitionId,
    stats: PartitionStats,
) -> Result<PartitionWatermarks, event_log_core::Error> {
    let high = stats.high;
    let low = match stats.messages {
        0 => high,
        // One for every offset that there ever was.
        messages if messages == high.0 => Offset::ZERO,
        _ => {
            let earliest = shared.ask(|client| async move { earliest(&client, partition).await }).await?;
            earliest.unwrap_or(high).min(high)
        }
    };
    Ok(PartitionWatermarks { low, high })
}
