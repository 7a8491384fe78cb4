//! A consumer's connection: one member of one group.

use std::sync::Arc;

use event_log_core::engine::{Assignment, FetchResponse, GroupMember};
use event_log_core::{CommitErrorKind, Error, Offset, PartitionId, PartitionWatermarks, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::ahead::ReadAhead;
use crate::limits;
use crate::lookout::look_out;
use crate::read;
use crate::remembered::{Tenure, Tenures};
use crate::sdk::{CallError, Client, From, GroupId, Membership, Roster};
use crate::shared::{Owner, Shared};

/// A consumer's connection. Opaque.
#[derive(Debug)]
pub struct IggyMember {
    shared: Arc<Shared>,
    client: Arc<Client>,
    group: GroupId,
    instance: u128,
    /// What the server said last.
    membership: Membership,
    /// When it said so.
    asked_at: Instant,
    /// The engine has not been told yet.
    is_news: bool,
    tenures: Tenures,
    /// The tenures of a membership that is not ours yet, as far as they are known.
    taking: Option<(Membership, Tenures)>,
    lanes: Lanes,
    _keep_alive: KeepAlive,
}

/// What this member knows of each partition, to spare requests.
#[derive(Debug)]
struct Lanes {
    /// Where the last fetch said that the partition ends.
    seen: Vec<Offset>,
    /// How many records the next fetch may ask for: as many as will not be too many bytes.
    batch: Vec<u32>,
    /// What is asked for already.
    ahead: Vec<Option<ReadAhead>>,
    /// The shared ends were looked up since this round of fetches began.
    is_fresh: bool,
    /// The member was woken by news, which are fresh.
    was_woken: bool,
    /// How many falls of ends it has taken note of.
    falls: u64,
    /// Partitions that may have begun again and grown as long as they were: to be read before anything is believed.
    suspects: Vec<bool>,
    /// When all were suspects last, for no reason but that time has passed.
    suspected_at: Instant,
}

/// How long a group has had ghosts, in looks that follow one another.
#[derive(Debug, Default)]
struct Haunting {
    since: Option<(u32, Instant)>,
    looks: u32,
}

impl Haunting {
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

/// Tells the server now and then that its member is alive, also while nobody polls. Ends with its member.
#[derive(Debug)]
struct KeepAlive(JoinHandle<()>);

impl KeepAlive {
    fn start(client: Arc<Client>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(limits::KEEP_ALIVE_INTERVAL).await;
                // Whoever uses the connection next finds out by itself.
                if client.ping().await.is_err() {
                    return;
                }
            }
        }))
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl IggyMember {
    pub(crate) async fn join(shared: Arc<Shared>, group: GroupId, instance: u128) -> Result<Self, Error> {
        let (client, topic) = shared.connect().await?;
        let batch = topic.partitions.iter().map(|stats| {
            let average = stats.bytes / stats.messages.max(1);
            records_within(event_log_core::limits::FETCH_BYTES, average)
        });
        let lanes = Lanes {
            seen: vec![Offset::ZERO; topic.partitions.len()],
            batch: batch.collect(),
            ahead: topic.partitions.iter().map(|_| None).collect(),
            is_fresh: false,
            was_woken: false,
            falls: shared.ends.snapshot().falls(),
            suspects: vec![true; topic.partitions.len()],
            suspected_at: Instant::now(),
        };
        let tenures = shared.remembered.recall(instance);
        let client = Arc::new(client);
        let mut member = Self {
            _keep_alive: KeepAlive::start(Arc::clone(&client)),
            membership: Membership { generation: 0, partitions: Vec::new() },
            asked_at: Instant::now(),
            is_news: true,
            shared,
            client,
            group,
            instance,
            tenures,
            taking: None,
            lanes,
        };
        let membership = member.settle().await?;
        member.take(membership).await?;
        Ok(member)
    }

    /// Joins, and waits until nobody counts as a member who is gone.
    ///
    /// Our own connection may have been lost a moment ago, and the server may not know: until it does we share with our
    /// old self. And a server that has crashed never gets to know of those that it had: see
    /// [`ghosts`](crate::sdk::ghosts).
    async fn settle(&mut self) -> Result<Membership, Error> {
        self.client.join(&self.group).await.map_err(CallError::into_error)?;
        let patience = Instant::now() + limits::REJOIN_GRACE;
        let mut haunting = Haunting::default();
        loop {
            let membership = self.ask_membership().await?;
            if membership.partitions.len() == self.lanes.seen.len() {
                return Ok(membership);
            }
            let has_all_it_had = self.tenures.keys().all(|one| membership.partitions.contains(one));
            match haunting.after(self.look_for_ghosts().await?) {
                None if has_all_it_had || Instant::now() >= patience => return Ok(membership),
                Some(roster) if haunting.is_certain() => {
                    if self.end_haunted_group(roster).await? {
                        haunting = Haunting::default();
                    } else {
                        return Ok(membership);
                    }
                }
                _ => {}
            }
            tokio::time::sleep(limits::REJOIN_LOOK).await;
        }
    }

    /// The roster of the group if it has ghosts.
    async fn look_for_ghosts(&self) -> Result<Option<Roster>, Error> {
        let start = Instant::now();
        match self.client.roster(&self.group).await.map_err(CallError::into_error) {
            // Where the list took so long it may not be whole.
            Ok(_) if start.elapsed() > limits::ROSTER_TIMEOUT => Ok(None),
            Ok(roster) => Ok(roster.filter(|roster| roster.has_ghosts())),
            // Whoever may not look has to take what there is.
            Err(Error::Unauthorized(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn end_haunted_group(&mut self, roster: Roster) -> Result<bool, Error> {
        let partitions = self.lanes.seen.len() as u32;
        let ended = self.client.end_haunted_group(&self.group, roster, partitions).await;
        let ended = ended.map_err(CallError::into_error)?;
        if ended {
            let group = self.group.name();
            tracing::warn!(group, "a group had members from before a crash of its server: it was made anew");
            self.client.join(&self.group).await.map_err(CallError::into_error)?;
        }
        Ok(ended)
    }

    async fn ask_membership(&mut self) -> Result<Membership, Error> {
        let membership = self.client.membership(&self.group).await.map_err(CallError::into_error)?;
        self.asked_at = Instant::now();
        // The server has dropped us: joining again is what helps.
        membership.ok_or(Error::Unavailable(None))
    }

    /// Brings what is known up to what the server says now.
    async fn sync(&mut self) -> Result<(), Error> {
        let membership = self.ask_membership().await?;
        if membership != self.membership {
            self.take(membership).await?;
        }
        Ok(())
    }

    /// Whoever may have had a partition in between has it no more. If the group has committed what it had when we
    /// knew it last, nothing was done with it that we would undo: it is ours as before. Otherwise it is a new epoch,
    /// which starts at what is committed.
    async fn take(&mut self, membership: Membership) -> Result<(), Error> {
        // Kept if this is dropped half way: with many partitions it may take longer than a poll.
        if self.taking.as_ref().is_none_or(|(taking, _)| *taking != membership) {
            self.taking = Some((membership.clone(), Tenures::new()));
        }
        for &partition in &membership.partitions {
            if self.taking.as_ref().is_some_and(|(_, tenures)| tenures.contains_key(&partition)) {
                continue;
            }
            let committed = self.ask_committed(partition).await?;
            let known = self.tenures.get(&partition).filter(|epoch| epoch.accounts_for(committed));
            let number = known.map_or_else(|| self.shared.remembered.next_number(), |epoch| epoch.number);
            let tail = known.and_then(|epoch| epoch.tail);
            if let Some((_, tenures)) = &mut self.taking {
                tenures.insert(partition, Tenure { number, committed, asked: None, tail });
            }
        }
        self.tenures = self.taking.take().map(|(_, tenures)| tenures).unwrap_or_default();
        self.membership = membership;
        self.is_news = true;
        Ok(())
    }

    async fn ask_committed(&self, partition: PartitionId) -> Result<Option<Offset>, Error> {
        self.client.committed(&self.group, partition).await.map_err(CallError::into_error)
    }

    /// What was read ahead from there, and where the partition was known to end before that. Anything else that was
    /// read ahead is of no use any more.
    async fn read_before(
        &mut self,
        partition: PartitionId,
        from: Offset,
    ) -> Option<(Offset, Result<FetchResponse, CallError>)> {
        let place = &mut self.lanes.ahead[partition.0 as usize];
        let answer = match place.as_mut().filter(|ahead| ahead.begins_at(from)) {
            Some(ahead) => ahead.answer().await.map(|answer| (ahead.before(), answer)),
            None => None,
        };
        *place = None;
        answer
    }

    /// Whether a fetch would come back with nothing. Asks for the ends of all partitions at once, which spares a
    /// request for each that has nothing new.
    async fn has_nothing(&mut self, partition: PartitionId, from: Offset) -> Result<bool, Error> {
        // Asking for the ends costs as much as asking for the records.
        let is_suspect = self.lanes.suspects[partition.0 as usize];
        if is_suspect || self.membership.partitions.len() < 2 || self.shared.ends.end(partition) > from {
            return Ok(false);
        }
        if !self.lanes.is_fresh {
            self.shared.look().await?;
            self.lanes.is_fresh = true;
        }
        Ok(self.shared.ends.end(partition) == from)
    }

    /// Whether something has come since the last fetches that they have not seen.
    fn has_news(&mut self) -> bool {
        self.suspect();
        let known = self.shared.ends.known();
        let known = known.borrow();
        self.membership.partitions.iter().any(|partition| {
            let lane = partition.0 as usize;
            self.lanes.suspects[lane] || known.end(*partition) > self.lanes.seen[lane]
        })
    }

    /// Suspects every partition when some has begun again, or when none was looked at for long.
    fn suspect(&mut self) {
        let falls = self.shared.ends.snapshot().falls();
        let is_time = self.lanes.suspected_at.elapsed() >= limits::SUSPECT_INTERVAL;
        if falls != self.lanes.falls || is_time {
            self.lanes.falls = falls;
            self.lanes.suspected_at = Instant::now();
            self.lanes.suspects.fill(true);
        }
    }
}

impl Drop for IggyMember {
    fn drop(&mut self) {
        self.shared.remembered.keep(self.instance, std::mem::take(&mut self.tenures));
        self.shared.give_up(Owner::Consumer(self.instance), &self.client);
    }
}

/// How many records of this average length are about so many bytes.
fn records_within(bytes: usize, average: u64) -> u32 {
    u32::try_from(bytes as u64 / average.max(1)).unwrap_or(u32::MAX).max(1)
}

impl GroupMember for IggyMember {
    async fn assignment(&mut self) -> Result<Option<Vec<Assignment>>, Error> {
        self.lanes.is_fresh = std::mem::take(&mut self.lanes.was_woken);
        self.suspect();
        if !self.is_news && self.asked_at.elapsed() >= limits::ASSIGNMENT_AGE {
            self.sync().await?;
        }
        if !self.is_news {
            return Ok(None);
        }
        self.is_news = false;
        let assigned = self.tenures.iter();
        Ok(Some(assigned.map(|(&partition, epoch)| Assignment { partition, epoch: epoch.number }).collect()))
    }

    async fn fetch(
        &mut self,
        partition: PartitionId,
        from: Offset,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<FetchResponse, Error> {
        let lane = partition.0 as usize;
        let count = self.lanes.batch[lane].min(u32::try_from(max_records).unwrap_or(u32::MAX));
        let tail = self.tenures.get(&partition).and_then(|epoch| epoch.tail);
        let tail = tail.filter(|(at, _)| at.next() == from);
        let (before, fetched) = match self.read_before(partition, from).await {
            Some(read) => read,
            None if self.has_nothing(partition, from).await? => {
                self.lanes.seen[lane] = from;
                // What is known of the ends is good for sparing a request, and not for saying where the partition ends.
                return Ok(FetchResponse::default());
            }
            None => {
                let before = self.shared.ends.end(partition);
                let fetched = match tail {
                    Some(tail) => read::read_on(&self.client, partition, tail, count).await,
                    None => read::read(&self.client, partition, from, count).await,
                };
                self.lanes.suspects[lane] &= fetched.is_err();
                (before, fetched)
            }
        };
        let mut fetched = fetched.map_err(CallError::into_error)?;
        if let Some(end) = fetched.high {
            self.shared.ends.learnt(partition, before, end, end);
        }
        // What an answer does not say is no news either, until somebody says more.
        self.lanes.seen[lane] = fetched.high.unwrap_or_else(|| self.shared.ends.end(partition));
        let bytes: usize = fetched.records.iter().map(|record| record.payload.len()).sum();
        if let Some(average) = bytes.checked_div(fetched.records.len()) {
            // No more than twice as many as before: what comes next may be longer than what came.
            let fits = records_within(max_bytes, average as u64);
            self.lanes.batch[lane] = fits.min(count.saturating_mul(2).max(1));
        }
        within(&mut fetched, max_records, max_bytes);
        if let (Some(epoch), Some(last)) = (self.tenures.get_mut(&partition), fetched.records.last()) {
            let read = (last.offset, last.id);
            epoch.tail = Some(read);
            // Who reads on, and is behind, will want more. A first look may be all that is wanted; and where it goes on after
            // a cut is not known.
            if tail.is_some()
                && !fetched.truncated
                && fetched.high.is_some_and(|high| high > last.offset.next())
            {
                let count = self.lanes.batch[lane].min(count);
                let before = self.shared.ends.end(partition);
                self.lanes.ahead[lane] = Some(ReadAhead::start(&self.client, partition, read, count, before));
            }
        }
        Ok(fetched)
    }

    async fn watermarks(&mut self, partition: PartitionId) -> Result<PartitionWatermarks, Error> {
        self.lanes.ahead[partition.0 as usize] = None;
        let topic = self.client.topic().await.map_err(CallError::into_error)?;
        let stats = topic.and_then(|topic| topic.partitions.get(partition.0 as usize).copied());
        let stats = stats.ok_or(Error::Unavailable(None))?;
        read::partition_watermarks(&self.client, partition, stats).await.map_err(CallError::into_error)
    }

    async fn offset_at(&mut self, partition: PartitionId, timestamp: Timestamp) -> Result<Offset, Error> {
        self.lanes.ahead[partition.0 as usize] = None;
        let polled = self.client.poll(partition, From::Timestamp(timestamp), 1).await;
        let polled = polled.map_err(CallError::into_error)?;
        match polled.records.first() {
            Some(first) => Ok(first.offset),
            None => Ok(self.watermarks(partition).await?.high),
        }
    }

    async fn committed(&mut self, partition: PartitionId) -> Result<Option<Offset>, Error> {
        self.lanes.ahead[partition.0 as usize] = None;
        let committed = self.ask_committed(partition).await?;
        if let Some(epoch) = self.tenures.get_mut(&partition) {
            epoch.committed = committed;
        }
        Ok(committed)
    }

    async fn store(&mut self, partition: PartitionId, next: Offset) -> Result<(), CommitErrorKind> {
        if let Some(epoch) = self.tenures.get_mut(&partition) {
            epoch.asked = Some(next);
        }
        let stored = self.client.store(&self.group, partition, next).await;
        if let Err(error) = stored {
            let failure = error.into_commit_failure();
            if matches!(failure, CommitErrorKind::Revoked) {
                // What we know of the group is out of date: ask before the next fetch.
                self.asked_at = Instant::now().checked_sub(limits::ASSIGNMENT_AGE).unwrap_or(self.asked_at);
            }
            return Err(failure);
        }
        if let Some(epoch) = self.tenures.get_mut(&partition) {
            (epoch.committed, epoch.asked) = (Some(next), None);
        }
        Ok(())
    }

    async fn wait(&mut self, deadline: Instant) {
        let shared = Arc::clone(&self.shared);
        let mut known = shared.ends.known();
        let lookout = look_out(&shared);
        tokio::pin!(lookout);
        let look_at = deadline.min(Instant::now() + limits::LOOK_INTERVAL);
        loop {
            known.mark_unchanged();
            if self.has_news() {
                self.lanes.was_woken = true;
                return;
            }
            let ask_at = self.asked_at + limits::ASSIGNMENT_INTERVAL;
            tokio::select! {
                _ = known.changed() => {}
                () = &mut lookout => {}
                () = tokio::time::sleep_until(look_at) => return,
                () = tokio::time::sleep_until(ask_at) => {
                    // An error here is found again by whoever asks next, and told there.
                    if self.sync().await.is_err() || self.is_news {
                        return;
                    }
                }
            }
        }
    }

    async fn leave(mut self) -> Result<(), Error> {
        let left = self.client.leave(&self.group).await.map_err(CallError::into_error);
        self.tenures.clear();
        self.shared.remembered.forget(self.instance);
        left
    }
}

/// Cuts what is more than so many records or bytes, but for the first record. It is fetched again.
fn within(fetched: &mut FetchResponse, max_records: usize, max_bytes: usize) {
    fetched.records.truncate(max_records);
    let mut bytes = 0_usize;
    let fits = fetched.records.iter().take_while(|record| {
        bytes = bytes.saturating_add(record.payload.len());
        bytes <= max_bytes
    });
    let fits = fits.count().max(1);
    fetched.records.truncate(fits);
}
