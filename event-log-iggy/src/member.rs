//! A consumer's connection: one member of one group.

mod news;
mod settle;

use std::sync::Arc;

use event_log_core::engine::{
    Assignment, Assignments, CommitMode, FetchRequest, FetchResponse, GroupMember, KnownEnd,
};
use event_log_core::{CommitErrorKind, Error, Offset, PartitionId};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::news::News;
use crate::limits;
use crate::member_state::{EpochState, Epochs};
use crate::places;
use crate::read;
use crate::sdk::{CallError, Client, GroupId, Membership};
use crate::shared::Shared;
use crate::watch::watch;

/// A consumer's connection. Opaque.
#[derive(Debug)]
pub struct IggyMember {
    shared: Arc<Shared>,
    client: Arc<Client>,
    group: GroupId,
    instance: u128,
    state: Mutex<State>,
    /// Locked after the state, where both are.
    epochs: Arc<Mutex<Epochs>>,
    /// A membership that is not ours yet, with the epochs in it as far as they are known. Held while the server is asked.
    taking: tokio::sync::Mutex<Option<(Membership, Epochs)>>,
    news: News,
    _keep_alive: KeepAlive,
}

/// What a member has.
#[derive(Debug)]
struct State {
    /// What the server said last.
    membership: Membership,
    /// When it said so.
    asked_at: Instant,
    /// The number that the engine tells memberships apart by.
    generation: u64,
}

/// Tells the server now and then that its member is alive, also while it is not polled. Ends with its member.
#[derive(Debug)]
struct KeepAlive(JoinHandle<()>);

impl KeepAlive {
    fn start(client: Arc<Client>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(limits::KEEP_ALIVE_INTERVAL).await;
                // The next request finds out too, and reports it.
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
        let epochs = shared.members.connect(group.name(), instance);
        let had: Vec<_> = epochs.lock().keys().copied().collect();
        let client = Arc::new(client);
        let state = State {
            membership: Membership { generation: 0, partitions: Vec::new() },
            asked_at: Instant::now(),
            generation: shared.members.next_epoch(),
        };
        let member = Self {
            _keep_alive: KeepAlive::start(Arc::clone(&client)),
            state: Mutex::new(state),
            epochs,
            taking: tokio::sync::Mutex::default(),
            news: News::new(topic.partitions.len()),
            shared,
            client,
            group,
            instance,
        };
        let membership = settle::settle(&member.shared, &member.client, &member.group, &had).await?;
        member.take(membership, &mut *member.taking.lock().await).await?;
        Ok(member)
    }

    /// Whether the partition is in the same epoch as it was when the engine was told, as the server has it now. A member that
    /// looked away for less than [`limits::ASSIGNMENT_AGE`] may have lost a partition to another one, which has committed
    /// and left: the server would take an older place for it without a word.
    async fn still_has(&self, places: &[(PartitionId, Offset)]) -> Result<Vec<bool>, Error> {
        let numbers = || {
            let epochs = self.epochs.lock();
            places.iter().map(|(one, _)| epochs.get(one).map(|epoch| epoch.number)).collect::<Vec<_>>()
        };
        let before = numbers();
        self.ask_again();
        self.sync().await?;
        Ok(before.iter().zip(numbers()).map(|(before, now)| now.is_some() && *before == now).collect())
    }

    /// What is known of the group is out of date: the server is asked before the next fetch.
    fn ask_again(&self) {
        let mut state = self.state.lock();
        let long_ago = Instant::now().checked_sub(limits::ASSIGNMENT_AGE);
        state.asked_at = long_ago.unwrap_or(state.asked_at);
    }

    fn is_out_of_date(&self) -> bool {
        self.state.lock().asked_at.elapsed() >= limits::ASSIGNMENT_AGE
    }

    /// Brings what is known up to what the server says now.
    async fn sync(&self) -> Result<(), Error> {
        let mut taking = self.taking.lock().await;
        if !self.is_out_of_date() {
            // Another call has just asked.
            return Ok(());
        }
        let membership = self.client.membership(&self.group).await.map_err(CallError::into_error)?;
        // The server has dropped us: joining again is what helps.
        let membership = membership.ok_or(Error::Unavailable(None))?;
        let is_same = {
            let mut state = self.state.lock();
            state.asked_at = Instant::now();
            state.membership == membership
        };
        if is_same { Ok(()) } else { self.take(membership, &mut taking).await }
    }

    /// Takes a membership over. A partition that the member had before stays in its epoch if the group has stored what the
    /// member knows of: then no other member has committed anything in between that continuing would undo. Any other
    /// begins a new epoch, at the group's place.
    async fn take(
        &self,
        membership: Membership,
        taking: &mut Option<(Membership, Epochs)>,
    ) -> Result<(), Error> {
        // Kept if this is dropped half way: with many partitions it may take longer than a poll.
        if taking.as_ref().is_none_or(|(taking, _)| *taking != membership) {
            *taking = Some((membership.clone(), Epochs::new()));
        }
        let Some((_, epochs)) = taking else { return Ok(()) };
        let had = self.epochs.lock().clone();
        let is_open = |one: &&PartitionId| !epochs.contains_key(one);
        let open: Vec<_> = membership.partitions.iter().filter(is_open).copied().collect();
        let (known, new): (Vec<_>, Vec<_>) = open.into_iter().partition(|one| had.contains_key(one));
        if !known.is_empty() {
            let (stored, _) = places::stored(&self.shared, &self.group, &known).await?;
            for (partition, stored) in known.iter().zip(stored) {
                // Nothing is processed, which is what a missing offset says.
                let stored = stored?.unwrap_or(Offset::ZERO);
                let same = had.get(partition).filter(|epoch| epoch.accounts_for(stored));
                let number = same.map_or_else(|| self.shared.members.next_epoch(), |epoch| epoch.number);
                epochs.insert(*partition, EpochState { committed: Some(stored), ..EpochState::new(number) });
            }
        }
        for partition in new {
            epochs.insert(partition, EpochState::new(self.shared.members.next_epoch()));
        }
        let mut state = self.state.lock();
        *self.epochs.lock() = taking.take().map(|(_, epochs)| epochs).unwrap_or_default();
        state.membership = membership;
        state.asked_at = Instant::now();
        state.generation = self.shared.members.next_epoch();
        Ok(())
    }

    /// The partitions that have news when waiting is over, and nothing has told of any since it began.
    async fn look_at_last(&self, ends: &[KnownEnd], began: Instant) -> Vec<PartitionId> {
        let all = || ends.iter().map(|one| one.partition).collect();
        // Asking where the partitions end costs as much as asking one of them for records.
        if ends.len() == 1 {
            return all();
        }
        if !self.shared.has_looked_since(began) && self.shared.look().await.is_err() {
            // The fetches find out why, and report it.
            return all();
        }
        self.news.of(ends, &self.shared.ends.snapshot()).0
    }

    /// What is asked for is what the group may have from now on, whether or not the answer comes.
    fn note_asked(&self, places: &[(PartitionId, Offset)]) {
        let mut epochs = self.epochs.lock();
        for (partition, next) in places {
            if let Some(epoch) = epochs.get_mut(partition) {
                epoch.asked = Some(*next);
            }
        }
    }
}

/// Nothing is stored. The first answer has the reason.
fn fail_all(count: usize, error: Error) -> Vec<Result<(), CommitErrorKind>> {
    let first = std::iter::once(error);
    let others = std::iter::repeat_with(|| Error::Unavailable(None));
    first.chain(others).take(count).map(|error| Err(CommitErrorKind::Failed(error))).collect()
}

impl Drop for IggyMember {
    fn drop(&mut self) {
        self.shared.members.disconnect(self.instance, std::mem::take(&mut *self.epochs.lock()));
        self.shared.abandon(self.instance, &self.client);
    }
}

impl GroupMember for IggyMember {
    async fn assignments(&self, known: Option<u64>) -> Result<Option<Assignments>, Error> {
        let is_news = known != Some(self.state.lock().generation);
        if !is_news && self.is_out_of_date() {
            self.sync().await?;
        }
        let state = self.state.lock();
        if known == Some(state.generation) {
            return Ok(None);
        }
        let epochs = self.epochs.lock();
        let assigned = epochs.iter().map(|(&partition, epoch)| Assignment { partition, epoch: epoch.number });
        Ok(Some(Assignments { generation: state.generation, partitions: assigned.collect() }))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let truncations = self.shared.ends.snapshot().truncations();
        let fetched = read::fetch(&self.shared, &self.client, request).await;
        let fetched = fetched.map_err(CallError::into_error)?;
        self.news.has_read(request.partition, truncations);
        Ok(fetched)
    }

    async fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        mode: CommitMode,
    ) -> Vec<Result<(), CommitErrorKind>> {
        if mode == CommitMode::Initialise {
            self.note_asked(places);
            return places::initialise(&self.shared, &self.group, places).await;
        }
        let has = match self.still_has(places).await {
            Ok(has) => has,
            Err(error) => return fail_all(places.len(), error),
        };
        let ours: Vec<_> =
            places.iter().zip(&has).filter(|(_, has)| **has).map(|(place, _)| *place).collect();
        self.note_asked(&ours);
        let mut answers = places::replace(&self.shared, &self.client, &self.group, &ours).await.into_iter();
        let revoked = || Err(CommitErrorKind::Revoked);
        let answer = |has: bool| if has { answers.next().unwrap_or_else(revoked) } else { revoked() };
        let stored: Vec<_> = has.into_iter().map(answer).collect();
        for ((partition, next), stored) in places.iter().zip(&stored) {
            match stored {
                Ok(()) => {
                    if let Some(epoch) = self.epochs.lock().get_mut(partition) {
                        (epoch.committed, epoch.asked) = (Some(*next), None);
                    }
                }
                Err(CommitErrorKind::Revoked) => self.ask_again(),
                Err(_) => {}
            }
        }
        stored
    }

    async fn wait(&self, ends: &[KnownEnd], known: Option<u64>, deadline: Instant) -> Vec<PartitionId> {
        let began = Instant::now();
        let mut shared_ends = self.shared.ends.subscribe();
        let watching = watch(&self.shared);
        tokio::pin!(watching);
        let look_at = deadline.min(began + limits::LOOK_INTERVAL);
        loop {
            let (generation, asked_at) = {
                let state = self.state.lock();
                (state.generation, state.asked_at)
            };
            if known != Some(generation) {
                return Vec::new();
            }
            let seen = shared_ends.borrow_and_update().clone();
            let (news, again) = self.news.of(ends, &seen);
            if !news.is_empty() {
                return news;
            }
            let again = again.map_or(look_at, |again| again.min(look_at));
            tokio::select! {
                _ = shared_ends.changed() => {}
                () = &mut watching => {}
                () = tokio::time::sleep_until(again) => {
                    if again == look_at {
                        return self.look_at_last(ends, began).await;
                    }
                }
                // The engine asks for the assignment when waiting is over. Asking here would hold a lock that it waits for.
                () = tokio::time::sleep_until(asked_at + limits::ASSIGNMENT_INTERVAL) => return Vec::new(),
            }
        }
    }

    async fn leave(&self) -> Result<(), Error> {
        let left = self.client.leave(&self.group).await.map_err(CallError::into_error);
        // Nothing is remembered: if it joins again it is as a new consumer.
        self.epochs.lock().clear();
        left
    }
}
