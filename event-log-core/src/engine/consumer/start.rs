//! Where a group begins: determined once, by its first member, for every partition.

use super::seek;
use crate::engine::transport::{CommitMode, GroupMember, Transport};
use crate::error::{CommitErrorKind, Error};
use crate::position::{PartitionId, SeekPosition};
use crate::record::Notice;

/// Sees to it that the group has a place in every partition, before anything is delivered to anyone. What does not hold of
/// the start that was asked for is in the notices.
pub(super) async fn ensure<T: Transport>(
    transport: &T,
    member: &T::Member,
    group: &str,
    start: &SeekPosition,
) -> Result<Vec<Notice>, Error> {
    let (mut is_started, mut is_complete, mut failed) = (false, true, None);
    for place in transport.committed(group).await? {
        match place {
            Ok(place) => {
                is_started |= place.is_some();
                is_complete &= place.is_some();
            }
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        // Another member was first, or will be seen to have been: a place that cannot be asked for is asked for again.
        _ if is_started && is_complete => return Ok(Vec::new()),
        Some(error) => return Err(error),
        None => {}
    }
    // Nothing, or what a member has left that ended while it stored the start: what is there is kept.
    let all: Vec<_> = (0..transport.properties().partitions).map(PartitionId).collect();
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
    Ok(notices)
}
