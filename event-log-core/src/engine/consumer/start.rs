//! Where a group begins: determined once, by its first member, for every partition.

use super::seek;
use crate::engine::transport::{CommitMode, GroupMember, Transport};
use crate::error::{CommitErrorKind, Error};
use crate::position::{Offset, PartitionId, SeekPosition};
use crate::record::Notice;

/// Whether the group certainly has no place in one of the partitions: it has not started, or not completely.
pub(super) fn is_missing(places: &[Result<Option<Offset>, Error>]) -> bool {
    places.iter().any(|place| matches!(place, Ok(None)))
}

/// Sees to it that the group has a place in every partition, before anything is delivered of one in which it has none. `named`
/// may have come to the log after the handle was opened. What does not hold of the start that was asked for is in the notices.
pub(super) async fn ensure<T: Transport>(
    transport: &T,
    member: &T::Member,
    group: &str,
    named: &[PartitionId],
    start: &SeekPosition,
) -> Result<Vec<Notice>, Error> {
    let named = named.iter().map(|partition| partition.0.saturating_add(1)).max().unwrap_or_default();
    let all: Vec<_> = (0..named.max(transport.properties().partitions)).map(PartitionId).collect();
    let places = transport.committed(group, &all).await?;
    if !is_missing(&places) {
        // A place that cannot be asked for is asked for again, and may turn out to be missing then. But where none is known at
        // all, nothing says that the group has started.
        let is_started = places.iter().any(Result::is_ok);
        let failed = if is_started { None } else { places.into_iter().find_map(Result::err) };
        return failed.map_or(Ok(Vec::new()), Err);
    }
    // Nothing, or what a member has left that ended while it stored the start: what is there is kept, known or not.
    let mut target = seek::resolve(transport, member, &all, start).await?;
    let marks = transport.watermarks().await?;
    let mut notices = Vec::new();
    for (partition, marks) in marks.iter() {
        match target.get(partition) {
            Some(next) if next > marks.high => {
                notices.push(Notice::Truncated { partition, from: next, resumed_at: marks.low });
                target.set(partition, marks.low);
            }
            Some(_) => {}
            // The start has no claim on what was gone before it was determined.
            None => target.set(partition, marks.low),
        }
    }
    let places: Vec<_> = target.iter().filter(|(partition, _)| all.contains(partition)).collect();
    for stored in member.commit(&places, CommitMode::Initialise).await {
        match stored {
            Ok(()) => {}
            Err(CommitErrorKind::Failed(error)) => return Err(error),
            Err(_) => return Err(Error::Unavailable(None)),
        }
    }
    if !notices.is_empty() {
        // Of several members that start the group at the same time another one may have prevailed.
        let places = transport.committed(group, &all).await.unwrap_or_default();
        notices.retain(|notice| is_true(notice, &places));
    }
    Ok(notices)
}

/// Whether reading begins where the notice says, as far as it is known.
fn is_true(notice: &Notice, places: &[Result<Option<Offset>, Error>]) -> bool {
    let Notice::Truncated { partition, resumed_at, .. } = notice else { return true };
    match places.get(partition.0 as usize) {
        Some(Ok(place)) => *place == Some(*resumed_at),
        _ => true,
    }
}
