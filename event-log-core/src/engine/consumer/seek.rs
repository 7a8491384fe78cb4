//! Seeking: finding the offsets that a position means, and moving the lanes there.

use serde::de::DeserializeOwned;

use super::Consumer;
use super::lane::Lane;
use crate::engine::transport::{FetchRequest, GroupMember, Transport};
use crate::engine::writer::{EMPTY_ANSWER_WAIT, EMPTY_ANSWERS};
use crate::error::Error;
use crate::limits;
use crate::position::{Cursor, Offset, PartitionId, SeekPosition, Timestamp};
use crate::watermark::PartitionWatermarks;

impl<E, T> Consumer<E, T>
where
    E: DeserializeOwned + Send + 'static,
    T: Transport,
{
    pub(super) async fn seek_to(&mut self, to: SeekPosition) -> Result<(), Error> {
        self.check_partitions(&to)?;
        self.connected().await?;
        let ours: Vec<_> = self.lanes.iter().map(Lane::partition).collect();
        if let SeekPosition::Position(position) = &to {
            if !ours.contains(&position.partition) {
                let problem = format!("partition {} belongs to another member", position.partition);
                return Err(Error::invalid("seek", problem));
            }
        }
        let target = self.resolve(&ours, &to).await?;
        // Offsets that somebody has kept may be from before the log was cut; what was found just now is not.
        let is_of_now = !matches!(to, SeekPosition::Position(_) | SeekPosition::Cursor(_));
        for lane in &mut self.lanes {
            if let Some(next) = target.get(lane.partition()) {
                lane.seek(next, is_of_now);
                self.position.set(lane.partition(), next);
            }
        }
        Ok(())
    }

    fn check_partitions(&self, to: &SeekPosition) -> Result<(), Error> {
        let partitions = self.transport.properties().partitions;
        let exists = |partition: PartitionId| partition.0 < partitions;
        let unknown = match to {
            SeekPosition::Position(position) => Some(position.partition).filter(|&one| !exists(one)),
            SeekPosition::Cursor(cursor) => cursor.iter().map(|(one, _)| one).find(|&one| !exists(one)),
            _ => None,
        };
        match unknown {
            Some(partition) => Err(Error::invalid("seek", format!("the log has no partition {partition}"))),
            None => Ok(()),
        }
    }
}

/// The offsets that a position means in these partitions. A partition that it does not speak of is absent.
pub(super) async fn resolve<T: Transport>(
    transport: &T,
    member: &mut T::Member,
    partitions: &[PartitionId],
    to: &SeekPosition,
) -> Result<Cursor, Error> {
    let mut target = Cursor::new();
    match to {
        SeekPosition::Position(position) => target.set(position.partition, position.offset),
        SeekPosition::Cursor(cursor) => target = cursor.clone(),
        SeekPosition::FromEnd(count) => return from_end(transport, member, partitions, *count).await,
        SeekPosition::Beginning => {
            let watermarks = transport.watermarks().await?;
            for &partition in partitions {
                target.set(partition, watermarks.get(partition).unwrap_or_default().low);
            }
        }
        SeekPosition::End => {
            let watermarks = transport.watermarks().await?;
            for &partition in partitions {
                target.set(partition, watermarks.get(partition).unwrap_or_default().high);
            }
        }
        SeekPosition::Timestamp(timestamp) => {
            let times: Vec<_> = partitions.iter().map(|&partition| (partition, *timestamp)).collect();
            target = partitions.iter().copied().zip(transport.offsets_at(&times).await?).collect();
        }
    }
    Ok(target)
}

/// Where the last `count` records of these partitions together begin.
async fn from_end<T: Transport>(
    transport: &T,
    member: &mut T::Member,
    partitions: &[PartitionId],
    count: usize,
) -> Result<Cursor, Error> {
    if count > limits::FROM_END_RECORDS {
        let problem = format!("FromEnd looks back over at most {} records", limits::FROM_END_RECORDS);
        return Err(Error::invalid("seek", problem));
    }
    let watermarks = transport.watermarks().await?;
    let mut target = Cursor::new();
    let mut tails: Vec<(Timestamp, PartitionId, Offset)> = Vec::new();
    for &partition in partitions {
        let (tail, high) =
            tail(member, watermarks.get(partition).unwrap_or_default(), partition, count).await?;
        target.set(partition, high);
        tails.extend(tail.into_iter().map(|(timestamp, offset)| (timestamp, partition, offset)));
    }
    tails.sort_unstable();
    // From the newest backwards, so that each partition ends up at its oldest record among the last.
    for &(_, partition, offset) in tails.iter().rev().take(count) {
        target.set(partition, target.get(partition).map_or(offset, |known| known.min(offset)));
    }
    Ok(target)
}

/// The last `count` records of one partition (time and offset), and its high watermark.
///
/// Looks back `count` offsets, and where gaps leave it short, twice as far each time: the cost depends on
/// the count and on the gaps, not on the length of the log.
async fn tail<M: GroupMember>(
    member: &mut M,
    marks: PartitionWatermarks,
    partition: PartitionId,
    count: usize,
) -> Result<(Vec<(Timestamp, Offset)>, Offset), Error> {
    let (mut window, mut empty) = (count as u64, 0);
    loop {
        let from = Offset(marks.high.0.saturating_sub(window)).max(marks.low);
        let mut found = Vec::new();
        let mut next = from;
        while next < marks.high {
            let fetched = member.fetch(FetchRequest::new(partition, next)).await?;
            next = next.max(fetched.low.unwrap_or(next));
            let scanned_to = fetched.scanned_to.filter(|&scanned_to| scanned_to > next);
            let read_to = fetched.records.last().map(|last| last.offset.next()).max(scanned_to);
            let Some(read_to) = read_to else {
                // No proof of the end: stopping here would pass over what is there.
                empty += 1;
                if empty > EMPTY_ANSWERS {
                    return Err(Error::Unavailable(Some(
                        "the log does not return what it says it has".into(),
                    )));
                }
                tokio::time::sleep(EMPTY_ANSWER_WAIT).await;
                continue;
            };
            next = read_to;
            let known = fetched.records.iter().take_while(|record| record.offset < marks.high);
            found.extend(known.map(|record| (record.timestamp, record.offset)));
        }
        if found.len() >= count || from == marks.low {
            found.drain(..found.len().saturating_sub(count));
            return Ok((found, marks.high));
        }
        window = window.saturating_mul(2);
    }
}
