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
    let mut failed = None;
    for place in transport.committed(group).await? {
        match place {
            // Another member was first.
            Ok(Some(_)) => return Ok(Vec::new()),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
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
