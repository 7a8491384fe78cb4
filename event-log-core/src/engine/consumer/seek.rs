//! Seeking: finding the offsets that a position means, and moving the readers there.

use futures::future::try_join_all;
use serde::de::DeserializeOwned;

use super::Consumer;
use super::commit::EndedBy;
use super::partition::PartitionReader;
use crate::engine::scan::{Scan, scan};
use crate::engine::transport::{GroupMember, Transport};
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
        self.know_of(greatest_partition(&to)).await?;
        check_partitions(&to, self.partitions)?;
        self.settle().await?;
        self.check_placed(|partition| match &to {
            SeekPosition::Position(position) => position.partition == partition,
            SeekPosition::Cursor(cursor) => cursor.get(partition).is_some(),
            _ => true,
        })?;
        let ours: Vec<_> = self.readers.iter().map(PartitionReader::partition).collect();
        if let SeekPosition::Position(position) = &to {
            if !ours.contains(&position.partition) {
                let problem = format!("partition {} belongs to another member", position.partition);
                return Err(Error::invalid("seek", problem));
            }
        }
        let Some(member) = self.membership.member() else { return Err(Error::Unavailable(None)) };
        let target = resolve(&*self.transport, member, &ours, &to).await?;
        // Offsets that the application has kept may be from before the log was truncated; what was found just now is not.
        let is_kept = matches!(to, SeekPosition::Position(_) | SeekPosition::Cursor(_));
        let marks = if is_kept { Some(self.transport.watermarks().await?) } else { None };
        let mut ended = Vec::new();
        for reader in &mut self.readers {
            let partition = reader.partition();
            let Some(next) = target.get(partition) else { continue };
            ended.push((partition, reader.ended(EndedBy::Seek)));
            if self.notices.left(partition) {
                reader.truncation_is_untold();
            }
            match marks.as_ref().map(|marks| marks.get(partition).unwrap_or_default()) {
                Some(PartitionWatermarks { low, high }) => reader.seek_kept(next, low, high),
                None => reader.seek_found(next),
            }
        }
        for (partition, epoch) in ended {
            self.remember(partition, epoch);
        }
        self.news.forget();
        self.show_cursors();
        Ok(())
    }
}

/// The offsets that a position means in these partitions. A partition that it does not name is absent.
pub(super) async fn resolve<T: Transport>(
    transport: &T,
    member: &T::Member,
    partitions: &[PartitionId],
    to: &SeekPosition,
) -> Result<Cursor, Error> {
    match to {
        SeekPosition::Position(position) => Ok([(position.partition, position.offset)].into_iter().collect()),
        SeekPosition::Cursor(cursor) => Ok(cursor.clone()),
        SeekPosition::FromEnd(count) => from_end(transport, member, partitions, *count).await,
        SeekPosition::Beginning | SeekPosition::End => {
            let marks = transport.watermarks().await?;
            let of = |partition: PartitionId| {
                let PartitionWatermarks { low, high } = marks.get(partition).unwrap_or_default();
                (partition, if *to == SeekPosition::End { high } else { low })
            };
            Ok(partitions.iter().copied().map(of).collect())
        }
        SeekPosition::Timestamp(timestamp) => {
            let times: Vec<_> = partitions.iter().map(|&partition| (partition, *timestamp)).collect();
            Ok(partitions.iter().copied().zip(transport.offsets_at(&times).await?).collect())
        }
    }
}

/// Where the last `count` records of these partitions together begin.
async fn from_end<T: Transport>(
    transport: &T,
    member: &T::Member,
    partitions: &[PartitionId],
    count: usize,
) -> Result<Cursor, Error> {
    if count > limits::FROM_END_RECORDS {
        let problem = format!("FromEnd looks back over at most {} records", limits::FROM_END_RECORDS);
        return Err(Error::invalid("seek", problem));
    }
    let marks = transport.watermarks().await?;
    let tails = partitions.iter().map(|&partition| {
        let marks = marks.get(partition).unwrap_or_default();
        async move { Ok::<_, Error>((partition, marks.high, tail(member, partition, marks, count).await?)) }
    });
    let mut target = Cursor::new();
    let mut newest: Vec<(Timestamp, PartitionId, Offset)> = Vec::new();
    for (partition, high, tail) in try_join_all(tails).await? {
        target.set(partition, high);
        newest.extend(tail.into_iter().map(|(timestamp, offset)| (timestamp, partition, offset)));
    }
    newest.sort_unstable();
    // From the newest backwards, so that each partition ends up at its oldest record among the last.
    for &(_, partition, offset) in newest.iter().rev().take(count) {
        target.set(partition, target.get(partition).map_or(offset, |known| known.min(offset)));
    }
    Ok(target)
}

/// The last `count` records of one partition, as time and offset.
///
/// Looks back `count` offsets, and where gaps leave it short, twice as far each time: the cost depends on the count and on
/// the gaps, not on the length of the log.
async fn tail<M: GroupMember>(
    member: &M,
    partition: PartitionId,
    marks: PartitionWatermarks,
    count: usize,
) -> Result<Vec<(Timestamp, Offset)>, Error> {
    let mut window = count as u64;
    loop {
        let from = Offset(marks.high.0.saturating_sub(window)).max(marks.low);
        let mut found = Vec::new();
        scan(
            |request| member.fetch(request),
            Scan { partition, offsets: from..marks.high },
            |record| {
                found.push((record.timestamp, record.offset));
            },
        )
        .await?;
        if found.len() >= count || from == marks.low {
            found.drain(..found.len().saturating_sub(count));
            return Ok(found);
        }
        window = window.saturating_mul(2);
    }
}

/// Refuses a position that names partitions which the log has not.
pub(super) fn check_partitions(to: &SeekPosition, partitions: u32) -> Result<(), Error> {
    match greatest_partition(to).filter(|partition| partition.0 >= partitions) {
        Some(partition) => Err(Error::invalid("seek", format!("the log has no partition {partition}"))),
        None => Ok(()),
    }
}

/// The last of the partitions that a position names, if it names any.
fn greatest_partition(to: &SeekPosition) -> Option<PartitionId> {
    match to {
        SeekPosition::Position(position) => Some(position.partition),
        SeekPosition::Cursor(cursor) => cursor.iter().map(|(partition, _)| partition).max(),
        _ => None,
    }
}
