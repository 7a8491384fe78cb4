//! The consumer of a [`TransportLog`](super::TransportLog): one lane per partition, merged into batches.
//!
//! Who owns what: the **member** (the backend's connection) knows which partitions are ours and what the
//! group has stored; a **lane** knows where we are in one partition, what has been fetched ahead, and what
//! has been delivered; the consumer merges lanes and keeps both cursors for the caller to look at.
//!
//! Everything that awaits comes first and changes nothing that a dropped future could lose; what takes
//! records out of the lanes is synchronous. That is why every method is cancel safe.

mod commit;
mod lane;
mod poison;
mod seek;
mod window;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use self::lane::{Lane, Revoked};
use super::transport::{Assignment, GroupMember, Transport};
use crate::codec::Codec;
use crate::consumer::{ConsumerOptions, EventConsumer};
use crate::error::{CommitError, Error};
use crate::limits;
use crate::position::{Cursor, Offset, PartitionId, Position, SeekPosition, Timestamp};
use crate::record::{EventBatch, Notice, Record};

/// Something that one poll begins and a later one may have to finish. It makes progress while it is polled.
type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A consumer over a [`Transport`].
pub(super) struct Consumer<E, T: Transport> {
    transport: Arc<T>,
    codec: Arc<dyn Codec<E>>,
    group: String,
    /// The same through all reconnects of this consumer.
    instance: u128,
    options: ConsumerOptions,
    /// `None` while the connection is lost.
    member: Option<T::Member>,
    /// Joining again, which may take longer than a poll.
    joining: Option<Pending<Result<T::Member, Error>>>,
    /// A letter under way to the dead-letter log, and the record that it is about: likewise.
    parking: Option<(Position, Pending<Result<(), Error>>)>,
    /// The generation of the assignment that was heard last.
    generation: Option<u64>,
    /// What the member has said and the lanes do not reflect yet.
    assigned: Option<Vec<Assignment>>,
    /// Lanes of partitions that have come to us, until all of them are known.
    arriving: Vec<Lane>,
    /// Sorted by partition.
    lanes: Vec<Lane>,
    /// How many turns the lanes have had.
    turns: u64,
    /// Where each partition starts if the group has never committed it.
    start: Cursor,
    position: Cursor,
    committed: Cursor,
    /// Partitions that were taken from us with something delivered and not committed: committing that has to fail.
    revoked: BTreeMap<PartitionId, Revoked>,
    /// Noticed, and not yet handed over with a batch.
    notices: Vec<Notice>,
}

impl<E, T> Consumer<E, T>
where
    E: DeserializeOwned + Send + 'static,
    T: Transport,
{
    pub(super) async fn open(
        transport: Arc<T>,
        codec: Arc<dyn Codec<E>>,
        group: &str,
        instance: u128,
        options: ConsumerOptions,
    ) -> Result<Self, Error> {
        let member = transport.join(group, instance).await?;
        let mut consumer = Self {
            transport,
            codec,
            group: group.to_owned(),
            instance,
            options,
            member: Some(member),
            joining: None,
            parking: None,
            generation: None,
            assigned: None,
            arriving: Vec::new(),
            lanes: Vec::new(),
            turns: 0,
            start: Cursor::new(),
            position: Cursor::new(),
            committed: Cursor::new(),
            revoked: BTreeMap::new(),
            notices: Vec::new(),
        };
        consumer.start = consumer.resolve_start().await?;
        consumer.sync_assignment().await?;
        // Having partitions to start with is no news.
        consumer.notices.clear();
        Ok(consumer)
    }

    /// The start position for every partition, also for those that only come to us later: otherwise `End`
    /// would mean a later end for them.
    async fn resolve_start(&mut self) -> Result<Cursor, Error> {
        let all = (0..self.transport.properties().partitions).map(PartitionId).collect::<Vec<_>>();
        let start = self.options.start.clone();
        self.resolve(&all, &start).await
    }

    /// The offsets that a position means in these partitions.
    async fn resolve(&mut self, partitions: &[PartitionId], to: &SeekPosition) -> Result<Cursor, Error> {
        let member = self.member.as_mut().ok_or(Error::Unavailable(None))?;
        let target = seek::resolve(&*self.transport, member, partitions, to).await;
        if let Err(error) = &target {
            self.note_lost(error);
        }
        target
    }

    /// The member, after joining again if the connection was lost, with the lanes as the group has them now.
    async fn connected(&mut self) -> Result<&mut T::Member, Error> {
        if self.member.is_none() {
            let joined = self.joining.get_or_insert_with(|| {
                let (transport, group) = (Arc::clone(&self.transport), self.group.clone());
                let instance = self.instance;
                Box::pin(async move { transport.join(&group, instance).await })
            });
            let joined = joined.await;
            self.joining = None;
            // What the last membership was about to give us may have gone elsewhere meanwhile.
            self.arriving.clear();
            self.generation = None;
            self.member = Some(joined?);
        }
        if let Err(error) = self.sync_assignment().await {
            self.note_lost(&error);
            return Err(error);
        }
        self.member.as_mut().ok_or(Error::Unavailable(None))
    }

    /// Forgets the member if the error says that its connection is lost.
    fn note_lost(&mut self, error: &Error) {
        if matches!(error, Error::Unavailable(_)) {
            self.member = None;
        }
    }

    async fn sync_assignment(&mut self) -> Result<(), Error> {
        let Some(member) = self.member.as_mut() else {
            return Err(Error::Unavailable(None));
        };
        if let Some(assigned) = member.assignments(self.generation).await? {
            self.generation = Some(assigned.generation);
            self.assigned = Some(assigned.partitions);
        }
        let Some(assigned) = &self.assigned else {
            return Ok(());
        };
        // What a dropped poll has found out about one of these is as good as new, and is not asked again.
        self.arriving.retain(|lane| assigned.contains(&lane.assigned()));
        for one in assigned {
            if self.lanes.iter().chain(&self.arriving).any(|lane| lane.assigned() == *one) {
                continue;
            }
            let committed = committed_of(&*self.transport, &self.group, one.partition).await?;
            let marks = self.transport.watermarks().await?.get(one.partition).unwrap_or_default();
            let start = self.start.get(one.partition).unwrap_or(Offset::ZERO);
            // The start has no claim on what was gone before the consumer came: that is not a loss.
            let next = committed.unwrap_or(start.max(marks.low));
            self.arriving.push(Lane::new(*one, committed, next, marks));
        }
        let fresh = std::mem::take(&mut self.arriving);
        self.apply_assignment(fresh);
        Ok(())
    }

    /// The synchronous half: from here on nothing is awaited.
    fn apply_assignment(&mut self, fresh: Vec<Lane>) {
        let Some(assigned) = self.assigned.take() else {
            return;
        };
        let ours = |partition| assigned.iter().any(|one| one.partition == partition);
        // A partition that somebody else has had in between went and came: what was not committed went with it.
        let gained: Vec<_> = fresh.iter().map(Lane::partition).collect();
        let stays = |lane: &Lane| ours(lane.partition()) && !gained.contains(&lane.partition());
        let gone = self.lanes.iter().filter(|lane| !stays(lane));
        let revoked: Vec<_> = gone.clone().map(Lane::partition).collect();
        for lane in gone.filter(|lane| lane.has_uncommitted()) {
            let revoked = lane.revoked();
            let known = self.revoked.entry(lane.partition()).or_insert(revoked);
            *known = Revoked { delivered: known.delivered.max(revoked.delivered), ..revoked };
        }
        self.lanes.retain(stays);
        self.lanes.extend(fresh);
        self.lanes.sort_by_key(Lane::partition);
        self.position = self.lanes.iter().map(|lane| (lane.partition(), lane.next())).collect();
        self.committed =
            self.lanes.iter().filter_map(|lane| Some((lane.partition(), lane.committed()?))).collect();
        if !revoked.is_empty() {
            self.notices.push(Notice::Revoked(revoked));
        }
        if !gained.is_empty() {
            self.notices.push(Notice::Assigned(gained));
        }
    }

    /// Fetches ahead, so that every lane has what a batch of `max_count` is likely to take from it.
    async fn fill_lanes(&mut self, max_count: usize) -> Result<(), Error> {
        self.connected().await?;
        let Some(member) = self.member.as_mut() else {
            return Err(Error::Unavailable(None));
        };
        // A lane with twice its share of the batch is not asked yet: it would be asked for a share each time, and a request
        // costs more than what it brings.
        let sharing = self.lanes.iter().filter(|lane| lane.has_more()).count().max(1);
        let enough = max_count.min(max_count.div_ceil(sharing) * 2);
        for lane in self.lanes.iter_mut().filter(|lane| lane.ahead() < enough) {
            match lane.fill(&*self.transport, &self.group, member, max_count).await {
                Ok(notice) => self.notices.extend(notice),
                Err(error @ Error::Unavailable(_)) => {
                    self.member = None;
                    return Err(error);
                }
                // A fault of one partition hides nothing of the others, and is told once per poll.
                Err(error) if lane.note_fault() => {
                    self.notices.push(Notice::Fault { partition: lane.partition(), error });
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Takes up to `max_count` records from the lanes, oldest first. Returns early where the order would
    /// become a guess (a lane has run dry although its partition has more), and before a record that has to
    /// be parked: parking is awaited only while nothing has been taken.
    async fn merge(&mut self, max_count: usize) -> Result<Vec<Record<E>>, Error> {
        let mut records = Vec::with_capacity(max_count.min(self.lanes.iter().map(Lane::ahead).sum()));
        'runs: while records.len() < max_count {
            let Some((at, run_until)) = next_run(&self.lanes) else {
                break;
            };
            let lane = &mut self.lanes[at];
            self.turns += 1;
            lane.take_turn(self.turns);
            // Longer than one record although others may be as old: turns are cheaper than records.
            let most = max_count.min(records.len() + limits::TURN_RECORDS);
            while records.len() < most && lane.head().is_some_and(|head| head.timestamp <= run_until) {
                match poison::take(lane, &*self.codec, &self.options.poison, &self.group, &mut records) {
                    poison::Taken::Delivered => {}
                    poison::Taken::Notice(notice) => self.notices.push(notice),
                    // Whatever comes before it is delivered first.
                    _ if !records.is_empty() => break 'runs,
                    poison::Taken::Halted(error) => return Err(error),
                    poison::Taken::Park(log, letter) => {
                        let position = letter.position;
                        // Not a second letter for the same record, when the poll that wrote the first was dropped.
                        let parking = self.parking.take_if(|(of, _)| *of != position);
                        drop(parking);
                        let (_, parked) = self
                            .parking
                            .get_or_insert_with(|| (position, Box::pin(poison::park(log, letter))));
                        let parked = parked.await;
                        self.parking = None;
                        parked?;
                        lane.park(position.offset);
                    }
                }
            }
            if lane.has_run_dry() && !records.is_empty() {
                break;
            }
        }
        Ok(self.moved(records))
    }

    /// Brings the visible position up to the lanes.
    fn moved(&mut self, records: Vec<Record<E>>) -> Vec<Record<E>> {
        for lane in &self.lanes {
            self.position.set(lane.partition(), lane.next());
        }
        records
    }

    /// Waits for something to change, after a round that found nothing.
    async fn wait(&mut self, deadline: Instant, has_failed: bool) {
        let soon = Instant::now() + limits::REJOIN_INTERVAL;
        match &mut self.member {
            // What failed is tried again soon, but not at once.
            Some(member) if !has_failed && !self.lanes.iter().any(Lane::is_faulty) => {
                // A lane that is behind and got nothing (an empty answer proves nothing) is asked again soon
                // too, since nobody may wake us for it.
                let behind = self.lanes.iter().any(Lane::is_behind);
                let ends: Vec<_> = self.lanes.iter().map(Lane::known_end).collect();
                member.wait(&ends, self.generation, if behind { deadline.min(soon) } else { deadline }).await;
            }
            _ => tokio::time::sleep_until(deadline.min(soon)).await,
        }
    }
}

/// What a group has committed of one partition.
async fn committed_of<T: Transport>(
    transport: &T,
    group: &str,
    partition: PartitionId,
) -> Result<Option<Offset>, Error> {
    let all = transport.committed(group).await?;
    all.into_iter().nth(partition.0 as usize).unwrap_or(Ok(None))
}

/// The lane with the oldest head, and until which time it may deliver before another one is older. Of lanes
/// that are equally old it is the one whose last turn is the longest ago.
fn next_run(lanes: &[Lane]) -> Option<(usize, Timestamp)> {
    let mut heads = lanes
        .iter()
        .enumerate()
        .filter_map(|(at, lane)| Some(((lane.head()?.timestamp, lane.last_turn()), at)));
    let (mut oldest, mut second) = (heads.next()?, Timestamp(u64::MAX));
    for head in heads {
        if head.0 < oldest.0 {
            second = oldest.0.0;
            oldest = head;
        } else {
            second = second.min(head.0.0);
        }
    }
    Some((oldest.1, second))
}

#[async_trait]
impl<E, T> EventConsumer<E> for Consumer<E, T>
where
    E: DeserializeOwned + Send + 'static,
    T: Transport,
{
    async fn poll(&mut self, max_count: usize, timeout: Duration) -> Result<EventBatch<E>, Error> {
        if max_count == 0 {
            return Err(Error::invalid("max_count", "must be at least 1"));
        }
        let max_count = max_count.min(limits::FETCH_RECORDS);
        let now = Instant::now();
        self.lanes.iter_mut().for_each(Lane::clear_fault);
        let deadline = now.checked_add(timeout).unwrap_or(now + limits::LONGEST_WAIT);
        loop {
            // Whatever is under way when the time is up is left where it is, and the next poll goes on with it.
            let overtime = deadline + limits::POLL_OVERTIME;
            let filled = match timeout_at(overtime, self.fill_lanes(max_count)).await {
                Ok(Err(error)) if !error.is_retryable() => return Err(error),
                Ok(filled) => filled,
                Err(_) => Err(Error::Timeout(timeout)),
            };
            // What was fetched before a connection was lost is still good.
            let merged = timeout_at(overtime, self.merge(max_count)).await;
            let records = merged.unwrap_or(Err(Error::Timeout(timeout)))?;
            let expired = Instant::now() >= deadline;
            match filled {
                // An empty batch would be a lie: nobody knows whether there are records.
                Err(error) if records.is_empty() && expired => return Err(error),
                _ if !records.is_empty() || expired => {
                    let notices = std::mem::take(&mut self.notices);
                    return Ok(EventBatch::new(records, notices, self.position.clone()));
                }
                filled => {
                    // A transport may ask a question while it waits; its answer is not waited for any longer either.
                    let _in_time = timeout_at(overtime, self.wait(deadline, filled.is_err())).await;
                }
            }
        }
    }

    async fn commit(&mut self, up_to: &Cursor) -> Result<(), CommitError> {
        self.commit_up_to(up_to).await
    }

    async fn seek(&mut self, to: SeekPosition) -> Result<(), Error> {
        self.seek_to(to).await
    }

    async fn end(&mut self) -> Result<Cursor, Error> {
        self.connected().await?;
        let ours: Vec<_> = self.lanes.iter().map(Lane::partition).collect();
        self.resolve(&ours, &SeekPosition::End).await
    }

    fn position(&self) -> &Cursor {
        &self.position
    }

    fn committed(&self) -> &Cursor {
        &self.committed
    }

    fn group(&self) -> &str {
        &self.group
    }

    async fn leave(mut self: Box<Self>) -> Result<(), Error> {
        match self.member.take() {
            Some(member) => member.leave().await,
            None => Ok(()),
        }
    }
}
