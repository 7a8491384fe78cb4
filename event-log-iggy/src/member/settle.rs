//! Joining a group, until all its members are connected.

use event_log_core::{Error, PartitionId};
use tokio::time::Instant;

use crate::limits;
use crate::places;
use crate::sdk::{CallError, Client, GroupId, Membership, Roster};
use crate::shared::Shared;

/// How long a group has had stale members, in looks that follow one another.
#[derive(Debug, Default)]
struct StaleSightings {
    since: Option<(u32, Instant)>,
    looks: u32,
}

impl StaleSightings {
    /// One more look. A look that shows none, or another group, ends what there was.
    fn after(&mut self, roster: Option<Roster>) -> Option<Roster> {
        let number = roster.map(|roster| roster.number);
        if number.is_none() || number != self.since.map(|(known, _)| known) {
            *self = Self { since: number.map(|number| (number, Instant::now())), looks: 0 };
        }
        self.looks += 1;
        roster
    }

    /// Whether it cannot be a connection that has just ended, or a list that was not whole.
    fn is_certain(&self) -> bool {
        self.looks >= limits::ROSTER_LOOKS
            && self.since.is_some_and(|(_, since)| since.elapsed() >= limits::REJOIN_GRACE)
    }
}

/// Joins, and waits until the group lists no member whose connection has ended. `had` is what this consumer had before.
///
/// The last connection of this consumer may have been lost a moment ago, and the server may not have noticed: until then
/// two members of one consumer share the partitions. A server that has crashed never removes the members that it had: see
/// [`Roster`].
pub(super) async fn settle(
    shared: &Shared,
    client: &Client,
    group: &GroupId,
    had: &[PartitionId],
) -> Result<Membership, Error> {
    client.join(group).await.map_err(CallError::into_error)?;
    let patience = Instant::now() + limits::REJOIN_GRACE;
    let mut sightings = StaleSightings::default();
    loop {
        let membership = client.membership(group).await.map_err(CallError::into_error)?;
        // The server has dropped us: joining again is what helps.
        let membership = membership.ok_or(Error::Unavailable(None))?;
        if membership.partitions.len() == shared.partitions() as usize {
            return Ok(membership);
        }
        let has_all_it_had = had.iter().all(|one| membership.partitions.contains(one));
        match sightings.after(find_stale_members(client, group).await?) {
            None if has_all_it_had || Instant::now() >= patience => return Ok(membership),
            Some(roster) if sightings.is_certain() => {
                recreate_group(shared, client, group, roster).await?;
                sightings = StaleSightings::default();
            }
            _ => {}
        }
        tokio::time::sleep(limits::REJOIN_LOOK).await;
    }
}

/// The roster of the group if it has stale members.
async fn find_stale_members(client: &Client, group: &GroupId) -> Result<Option<Roster>, Error> {
    let start = Instant::now();
    match client.roster(group).await.map_err(CallError::into_error) {
        // Where the list took so long it may not be whole.
        Ok(_) if start.elapsed() > limits::ROSTER_TIMEOUT => Ok(None),
        Ok(roster) => Ok(roster.filter(|roster| roster.has_stale_members())),
        // A user without the permission to list connections joins without looking.
        Err(Error::Unauthorized(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes the group and makes it again. What it has committed is kept in the copies.
async fn recreate_group(
    shared: &Shared,
    client: &Client,
    group: &GroupId,
    roster: Roster,
) -> Result<(), Error> {
    places::copy(shared, group).await?;
    client.recreate_group(roster).await.map_err(CallError::into_error)?;
    let name = group.name();
    tracing::warn!(group = name, "recreated a consumer group that listed members from before a server crash");
    client.join(group).await.map_err(CallError::into_error)
}
