//! The place of a group in each partition: asked for and stored for all of them at once, in round trips that overlap.

use std::future::Future;
use std::iter;
use std::sync::Arc;

use event_log_core::{CommitErrorKind, Error, Offset, PartitionId};
use futures::future::join;
use futures::stream::{self, StreamExt as _};
use tokio::time::Instant;

use crate::limits;
use crate::sdk::{CallError, Client, ErrorClass, GroupId, Stored, StoredOffset, TopicDetails};
use crate::shared::Shared;

/// Asks the same of each item, some at a time. The answers are in the order of the items.
pub(crate) async fn each<T, R, F: Future<Output = R>>(
    items: impl IntoIterator<Item = T>,
    question: impl Fn(T) -> F,
) -> Vec<R> {
    // Not as a closure within the chain: it would have to be general over lifetimes.
    let questions: Vec<F> = items.into_iter().map(question).collect();
    stream::iter(questions).buffered(limits::QUESTIONS_IN_FLIGHT).collect().await
}

/// What the server has stored for a group in these partitions, and what the topic is like.
pub(crate) async fn stored(
    shared: &Shared,
    group: &GroupId,
    partitions: &[PartitionId],
) -> Result<(Vec<Result<Option<Offset>, Error>>, TopicDetails), Error> {
    let offsets = each(partitions, |&partition| {
        shared.ask(move |client| async move { client.stored_offset(group, partition).await })
    });
    let (topic, offsets) = join(shared.look(), offsets).await;
    let topic = topic?;
    let next = |(partition, offset): (&PartitionId, Result<Option<StoredOffset>, Error>)| {
        Ok(offset?.and_then(|offset| offset.next_in(topic.stats(*partition))))
    };
    Ok((partitions.iter().zip(offsets).map(next).collect(), topic))
}

/// The place of a group in these partitions.
///
/// A missing offset of a group that has started is asked for again, and certainly: it is where the group begins, and the
/// server says the same when it could not ask the part of it that has the partition.
pub(crate) async fn committed(
    shared: &Shared,
    group: &GroupId,
    partitions: &[PartitionId],
) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
    let (mut places, topic) = stored(shared, group, partitions).await?;
    let known = partitions
        .iter()
        .zip(&places)
        .filter_map(|(&partition, place)| Some((partition, place.as_ref().ok()?.unwrap_or(Offset::ZERO))));
    shared.members.stored(group.name(), known);
    let missing: Vec<_> = places
        .iter()
        .enumerate()
        .filter(|(_, place)| matches!(place, Ok(None)))
        .map(|(nth, _)| nth)
        .collect();
    let has_any = places.iter().any(|place| matches!(place, Ok(Some(_))));
    if missing.is_empty()
        || (!has_any && !shared.ask(|client| async move { client.is_started(group).await }).await?)
    {
        return Ok(places);
    }
    let certain = each(&missing, |&nth| {
        let partition = partitions[nth];
        let stats = topic.stats(partition);
        shared.ask(move |client| async move {
            let offset = client.certain_offset(group, partition, stats).await?;
            Ok(offset.and_then(|offset| offset.next_in(stats)).unwrap_or(Offset::ZERO))
        })
    });
    for (&nth, place) in missing.iter().zip(certain.await) {
        places[nth] = place.map(Some);
    }
    Ok(places)
}

/// Stores places of which this member has the partitions. `client` is the member's connection: the server takes a group's
/// offset only from there. The copies follow over other connections, while the next offset is stored.
pub(crate) async fn replace(
    shared: &Shared,
    client: &Client,
    group: &GroupId,
    places: &[(PartitionId, Offset)],
) -> Vec<Result<(), CommitErrorKind>> {
    // Where nothing is stored, only the marker says that the group has a place.
    if places.iter().any(|&(_, next)| next == Offset::ZERO)
        && let Err(error) = shared.ask(|client| async move { client.set_started(group).await }).await
    {
        return all_failed(places, error);
    }
    let store = |partition, next| client.store(group, Stored::Group, partition, next);
    // Before the first offset that it stores over a connection the SDK asks for the cluster's nodes, and so it does for each
    // that waits for its turn behind that.
    let first = match places.first() {
        Some(&(partition, next)) if client.is_first_store() => Some(store(partition, next).await),
        _ => None,
    };
    let stored = iter::once(first).chain(iter::repeat_with(|| None));
    each(places.iter().zip(stored), |(&(partition, next), stored)| async move {
        let stored = match stored {
            Some(stored) => stored,
            None => store(partition, next).await,
        };
        stored.map_err(CallError::into_commit_failure)?;
        store_copy(shared, group, partition, next).await.map_err(CommitErrorKind::Failed)
    })
    .await
}

async fn store_copy(
    shared: &Shared,
    group: &GroupId,
    partition: PartitionId,
    next: Offset,
) -> Result<(), Error> {
    shared.ask(|client| async move { client.store(group, Stored::Copy, partition, next).await }).await
}

/// Stores where a group begins, unless it has started. One of several members does so, and the others wait for it.
pub(crate) async fn initialise(
    shared: &Shared,
    group: &GroupId,
    places: &[(PartitionId, Offset)],
) -> Vec<Result<(), CommitErrorKind>> {
    match start(shared, group, places).await {
        Ok(()) => places.iter().map(|_| Ok(())).collect(),
        Err(error) => all_failed(places, error),
    }
}

async fn start(shared: &Shared, group: &GroupId, places: &[(PartitionId, Offset)]) -> Result<(), Error> {
    let is_started = || shared.ask(|client| async move { client.is_started(group).await });
    let patience = Instant::now() + limits::GROUP_START_GRACE;
    let is_claimed = loop {
        if is_started().await? {
            return Ok(());
        }
        if shared.ask(|client| async move { client.claim_start(group).await }).await? {
            break true;
        }
        if Instant::now() >= patience {
            // The member that claimed it has died.
            break false;
        }
        tokio::time::sleep(limits::GROUP_START_LOOK).await;
    };
    // Another member may have started it, and ended its claim, since it was asked.
    let stored = if is_claimed && is_started().await? {
        Ok(())
    } else {
        match store_start(shared, group, places).await {
            Ok(()) => shared.ask(|client| async move { client.set_started(group).await }).await,
            failed => failed,
        }
    };
    // Also after a failure: the next attempt need not wait for this one.
    let ended = shared.ask(|client| async move { client.end_claim(group).await }).await;
    stored.and(ended)
}

/// Stores the start of the group in the copies, which a member may store that has not got the partition.
async fn store_start(
    shared: &Shared,
    group: &GroupId,
    places: &[(PartitionId, Offset)],
) -> Result<(), Error> {
    // Where the start is the first offset there is nothing to store.
    let places: Vec<_> = places.iter().filter(|(_, next)| *next > Offset::ZERO).copied().collect();
    let partitions: Vec<_> = places.iter().map(|&(partition, _)| partition).collect();
    let (known, _) = stored(shared, group, &partitions).await?;
    let stored = each(places.into_iter().zip(known), |((partition, next), known)| async move {
        if known?.is_some() {
            return Ok(());
        }
        let store = |client: Arc<Client>| async move {
            match client.store(group, Stored::Copy, partition, next).await {
                // The partition has no record: it was purged in the meantime, or retention has taken all of it. Then the group
                // begins where the partition does.
                Err(error) if error.class() == ErrorClass::Refused => Ok(()),
                stored => stored,
            }
        };
        shared.ask(store).await
    });
    stored.await.into_iter().collect()
}

/// Stores a copy of what the group has committed, also of what others than this library have.
pub(crate) async fn copy(shared: &Shared, group: &GroupId) -> Result<(), Error> {
    let topic = &shared.look().await?;
    let copied = each((0..shared.partitions()).map(PartitionId), |partition| {
        let stats = topic.stats(partition);
        shared.ask(move |client| async move {
            let next = |offset: Option<StoredOffset>| offset.and_then(|offset| offset.next_in(stats));
            let original = next(client.offset_of(group, Stored::Group, partition).await?);
            let copy = next(client.offset_of(group, Stored::Copy, partition).await?);
            match original {
                // A copy that is farther was stored by a member that has committed in the meantime.
                Some(original) if copy < Some(original) => {
                    client.store(group, Stored::Copy, partition, original).await
                }
                _ => Ok(()),
            }
        })
    });
    copied.await.into_iter().collect()
}

/// Forgets a group: its members must have left.
pub(crate) async fn forget(shared: &Shared, group: &GroupId) -> Result<(), Error> {
    shared.ask(|client| async move { client.delete_group(group).await }).await?;
    let forgotten = each((0..shared.partitions()).map(PartitionId), |partition| {
        shared.ask(move |client| async move { client.forget_offset(group, Stored::Copy, partition).await })
    });
    forgotten.await.into_iter().collect::<Result<(), _>>()?;
    // Last: a group that is half forgotten has started, and is not started again at another place.
    shared.ask(|client| async move { client.forget_start(group).await }).await
}

/// The first gets the error, and the others one that says the same of the connection.
fn all_failed(places: &[(PartitionId, Offset)], error: Error) -> Vec<Result<(), CommitErrorKind>> {
    let mut error = Some(error);
    places
        .iter()
        .map(|_| Err(CommitErrorKind::Failed(error.take().unwrap_or(Error::Unavailable(None)))))
        .collect()
}
