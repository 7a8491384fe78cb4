//! The consumer of a [`TransportLog`](super::TransportLog): one reader per partition, merged into batches.
//!
//! Who owns what: the [`Membership`] owns the connection, and knows which partitions belong to this member and where the
//! group stands in them; a [`PartitionReader`] owns everything about one partition; the consumer merges the readers and
//! keeps both cursors for the caller to look at.
//!
//! Everything that is awaited is a [`Task`](super::task::Task) of one of them. A poll drives them all, synchronously, and
//! takes records out of the readers in the same breath in which it returns them. So a poll that is dropped loses nothing,
//! neither records nor the work under way.

mod commit;
mod fetch;
mod isolation;
mod known;
mod look_back;
mod membership;
mod merge;
mod news;
mod notices;
mod partition;
mod poison;
mod polling;
mod seek;
mod start;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, Sleep, timeout};

use self::commit::{EndedBy, EndedEpoch};
use self::fetch::Source;
use self::membership::{Change, Membership, Place};
use self::merge::Head;
use self::news::News;
use self::notices::Notices;
use self::partition::{Conduct, PartitionReader, Report};
use self::polling::Call;
use super::transport::{Assignment, GroupMember, Transport};
use crate::codec::Codec;
use crate::consumer::{ConsumerOptions, EventConsumer};
use crate::dead_letter::LetterFrom;
use crate::error::{CommitError, Error};
use crate::limits;
use crate::position::{Cursor, Epochs, Offset, PartitionId, SeekPosition};
use crate::record::EventBatch;
use crate::waking::{ContainedWaker, contain_wakes};

/// A consumer over a [`Transport`].
pub(super) struct Consumer<E, T: Transport> {
    transport: Arc<T>,
    codec: Arc<dyn Codec<E>>,
    runtime: Handle,
    group: Arc<str>,
    options: ConsumerOptions,
    /// Of the properties of the transport, which are not asked for at each poll.
    reads_ahead: bool,
    membership: Membership<T>,
    /// How many partitions the log is known to have: some may have come to it since the handle was opened.
    partitions: u32,
    /// Sorted by partition.
    readers: Vec<PartitionReader>,
    /// Waits for news of partitions that were read to their ends.
    news: News,
    /// Wakes the consumer when something is due although no task has ended.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Since when what could be delivered or told is held back for records that may be older.
    held_since: Option<Instant>,
    /// How many records the readers have delivered.
    turns: u64,
    /// Memory for the merge.
    heads: Vec<Head>,
    position: Cursor,
    committed: Cursor,
    epochs: Epochs,
    /// Epochs that have ended, newest last: cursors from them may still come.
    ended: BTreeMap<PartitionId, VecDeque<EndedEpoch>>,
    /// How far any epoch that has ended has come, remembered or not.
    reached: BTreeMap<PartitionId, Offset>,
    /// How partitions have behaved that have no reader: a membership that is lost takes all readers with it where each one is a new
    /// epoch.
    conduct: BTreeMap<PartitionId, Conduct>,
    notices: Notices,
    /// Where letters come from.
    letter_from: LetterFrom,
    /// Of the task that has polled last.
    waker: ContainedWaker,
}

/// Awaits within the runtime that the log was opened on: timers need one, and the caller may be on a thread without.
pub(super) async fn within<F: Future>(runtime: &Handle, future: F) -> F::Output {
    let mut future = pin!(future);
    // A timer of the runtime wakes the caller's task, on a thread of others.
    contain_wakes(poll_fn(|cx| {
        let _entered = runtime.enter();
        future.as_mut().poll(cx)
    }))
    .await
}

impl<E, T> Consumer<E, T>
where
    E: DeserializeOwned + Send + 'static,
    T: Transport,
{
    pub(super) async fn open(
        transport: Arc<T>,
        codec: Arc<dyn Codec<E>>,
        runtime: Handle,
        group: &str,
        instance: u128,
        options: ConsumerOptions,
    ) -> Result<Self, Error> {
        seek::check_partitions(&options.start, transport.properties().partitions)?;
        let group: Arc<str> = group.into();
        let letter_from =
            LetterFrom::new(transport.properties().topic.unwrap_or_default(), Arc::clone(&group));
        let member = transport.join(&group, instance).await?;
        let notices = start::ensure(&*transport, &member, &group, &[], &options.start).await?;
        let mut membership =
            Membership::new(Arc::clone(&transport), Arc::clone(&group), options.start.clone(), instance);
        membership.joined(member);
        let mut consumer = Self {
            reads_ahead: transport.properties().reads_ahead,
            partitions: transport.properties().partitions,
            transport,
            codec,
            runtime,
            group,
            options,
            membership,
            readers: Vec::new(),
            news: News::default(),
            alarm: None,
            held_since: None,
            turns: 0,
            heads: Vec::new(),
            position: Cursor::new(),
            committed: Cursor::new(),
            epochs: Epochs::new(),
            ended: BTreeMap::new(),
            reached: BTreeMap::new(),
            conduct: BTreeMap::new(),
            notices: Notices::default(),
            letter_from,
            waker: ContainedWaker::default(),
        };
        let runtime = consumer.runtime.clone();
        within(&runtime, consumer.settle()).await?;
        consumer.notices.opened(notices);
        Ok(consumer)
    }

    /// Completes when the consumer has a connection, and knows its partitions and where it stands in them.
    async fn settle(&mut self) -> Result<(), Error> {
        self.settle_until(Membership::is_settled).await
    }

    async fn settle_until(&mut self, is_enough: impl Fn(&Membership<T>) -> bool) -> Result<(), Error> {
        self.membership.ask_anew();
        self.drive_until(is_enough).await
    }

    async fn drive_until(&mut self, is_enough: impl Fn(&Membership<T>) -> bool) -> Result<(), Error> {
        poll_fn(|cx| {
            loop {
                self.drive_membership(cx, Instant::now())?;
                if is_enough(&self.membership) {
                    return Poll::Ready(Ok(()));
                }
                // One attempt to join is enough: the next call makes another.
                if !self.membership.is_joining() {
                    if let Some(error) = self.membership.take_lost() {
                        return Poll::Ready(Err(error));
                    }
                }
                let due = self.membership.alarm();
                if !self.set_alarm(cx, due) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Fails while it is not known where a partition of this member stands that matters: it has no reader, and would be left out.
    fn check_placed(&self, matters: impl Fn(PartitionId) -> bool) -> Result<(), Error> {
        let Some(partition) = self.membership.unplaced(matters) else { return Ok(()) };
        let problem = format!("the place of the group in partition {partition} is not known yet");
        Err(Error::Unavailable(Some(problem.into())))
    }

    /// Brings the readers up to what the membership finds out.
    fn drive_membership(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Error> {
        while let Some(change) = self.membership.step(cx, now) {
            match change {
                Change::Lost => self.disconnected(),
                Change::Assigned(assignments) => self.assigned(assignments),
                Change::Placed { places, faults, started } => {
                    self.notices.started(started);
                    for (partition, error) in faults {
                        self.notices.fault(partition, error);
                    }
                    self.placed(places);
                }
                Change::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The connection is lost.
    fn disconnected(&mut self) {
        self.news.forget();
        self.readers.iter_mut().for_each(PartitionReader::disconnected);
    }

    /// Sees to it that the log is known to have this partition, if it has.
    async fn know_of(&mut self, partition: Option<PartitionId>) -> Result<(), Error> {
        if partition.is_some_and(|partition| partition.0 >= self.partitions) {
            let marks = self.transport.watermarks().await?;
            self.partitions = self.partitions.max(marks.partitions());
        }
        Ok(())
    }

    /// Gives up what is not this member's any more, and has the rest placed that it does not read yet.
    fn assigned(&mut self, assignments: Vec<Assignment>) {
        for one in &assignments {
            self.partitions = self.partitions.max(one.partition.0.saturating_add(1));
        }
        let (stay, gone) = std::mem::take(&mut self.readers)
            .into_iter()
            .partition(|reader| assignments.contains(&reader.assignment()));
        self.readers = stay;
        for reader in gone {
            self.remember(reader.partition(), reader.ended(EndedBy::Revocation));
            self.notices.left(reader.partition());
            self.notices.revoked(reader.partition());
            self.conduct.insert(reader.partition(), reader.into_conduct());
        }
        let is_read = |one: &Assignment| self.readers.iter().any(|reader| reader.assignment() == *one);
        self.membership.arrive(assignments.into_iter().filter(|one| !is_read(one)).collect());
        self.show_cursors();
    }

    fn placed(&mut self, places: Vec<Place>) {
        for Place { assignment, committed, low } in places {
            self.notices.assigned(assignment.partition);
            let conduct = self.conduct.remove(&assignment.partition).unwrap_or_default();
            self.readers.push(PartitionReader::new(self.epochs.clone(), assignment, committed, low, conduct));
        }
        self.readers.sort_by_key(PartitionReader::partition);
        self.show_cursors();
    }

    fn remember(&mut self, partition: PartitionId, ended: EndedEpoch) {
        if !ended.stood_beyond {
            let reached = self.reached.entry(partition).or_default();
            *reached = ended.next.max(*reached);
        }
        let epochs = self.ended.entry(partition).or_default();
        epochs.push_back(ended);
        if epochs.len() > limits::REMEMBERED_EPOCHS {
            epochs.pop_front();
        }
    }

    /// Brings the visible cursors up to the readers.
    fn show_cursors(&mut self) {
        (self.position, self.committed) = (Cursor::new(), Cursor::new());
        for reader in &self.readers {
            self.position.set_read(reader.partition(), reader.next(), reader.epoch());
            if let Some(committed) = reader.committed() {
                self.committed.set_read(reader.partition(), committed, reader.epoch());
            }
        }
    }

    /// Has every reader do what it can do without waiting, for so long. True when one of them could go on.
    fn drive_readers(&mut self, cx: &mut Context<'_>, max_count: usize, now: Instant) -> bool {
        for reader in &mut self.readers {
            poison::poll_letter(reader, cx, now, &mut self.notices);
        }
        let Some(member) = self.membership.reading().map(Arc::clone) else { return false };
        // A reader with twice its share of the batch is not asked yet: it would be asked for a share each time, and a
        // request costs more than what it brings.
        let sharing = self.readers.iter().filter(|reader| reader.has_more()).count().max(1);
        let wanted = max_count.min(max_count.div_ceil(sharing).saturating_mul(2));
        let source = Source {
            transport: &self.transport,
            member: &member,
            group: &self.group,
            runtime: &self.runtime,
            reads_ahead: self.reads_ahead,
            now,
            wanted,
            has_room: true,
            may_isolate: false,
        };
        let (mut reports, mut is_unfinished) = (Vec::new(), false);
        let mut advance = |reader: &mut PartitionReader, may_isolate| {
            let report = reader.advance(cx, &Source { may_isolate, ..source }, wanted);
            is_unfinished |= report.is_unfinished;
            if !report.is_empty() {
                reports.push((reader.partition(), report));
            }
        };
        self.readers.iter_mut().for_each(|reader| advance(reader, false));
        for at in isolation::in_turn(&self.readers) {
            advance(&mut self.readers[at], true);
        }
        self.take_reports(reports, now);
        is_unfinished
    }

    fn take_reports(&mut self, reports: Vec<(PartitionId, Report)>, now: Instant) {
        let mut lost = None;
        for (partition, report) in reports {
            self.notices.extend(partition, report.notices);
            if report.is_another_log {
                self.notices.truncated(partition);
                let epochs = self.ended.get_mut(&partition).into_iter().flatten();
                epochs.for_each(|ended| ended.by = EndedBy::Truncation);
            }
            for epoch in report.ended {
                self.remember(partition, epoch);
                self.show_cursors();
            }
            lost = lost.or(report.lost);
        }
        if let Some(error) = lost {
            self.membership.disconnect(error, now);
            self.disconnected();
        }
    }
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
        // A poll over a backlog never waits, and must not keep the other tasks of its thread from running.
        consume_budget().await;
        let mut call = Call::new(max_count, timeout);
        self.membership.ask_now();
        self.news.ask_now();
        if !self.reads_ahead {
            self.readers.iter_mut().for_each(PartitionReader::look_again);
            call.looks_by_fetching = true;
        }
        let runtime = self.runtime.clone();
        poll_fn(|cx| {
            let _entered = runtime.enter();
            let waker = self.waker.of(cx).clone();
            self.poll_batch(&mut Context::from_waker(&waker), &mut call)
        })
        .await
    }

    async fn commit(&mut self, up_to: &Cursor) -> Result<(), CommitError> {
        consume_budget().await;
        let runtime = self.runtime.clone();
        within(&runtime, self.commit_up_to(up_to)).await
    }

    async fn seek(&mut self, to: SeekPosition) -> Result<(), Error> {
        consume_budget().await;
        let runtime = self.runtime.clone();
        within(&runtime, self.seek_to(to)).await
    }

    async fn end(&mut self) -> Result<Cursor, Error> {
        consume_budget().await;
        let runtime = self.runtime.clone();
        within(&runtime, self.settle()).await?;
        // A question for a place that has failed is asked again, for so long.
        let is_placed =
            |membership: &Membership<T>| membership.is_settled() && membership.unplaced(|_| true).is_none();
        let placed = async { timeout(limits::POLL_OVERTIME, self.drive_until(is_placed)).await };
        match within(&runtime, placed).await {
            Ok(placed) => placed?,
            Err(_) => {
                self.check_placed(|_| true)?;
                return Err(Error::Timeout(limits::POLL_OVERTIME));
            }
        }
        let marks = within(&runtime, self.transport.watermarks()).await?;
        let mut end = Cursor::new();
        for reader in &mut self.readers {
            let marks = marks.get(reader.partition());
            marks.into_iter().for_each(|marks| reader.ends_at(marks.high));
            end.set(reader.partition(), marks.unwrap_or_default().high);
        }
        Ok(end)
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
        match self.membership.member() {
            Some(member) => within(&self.runtime, member.leave()).await,
            None => Ok(()),
        }
    }
}
