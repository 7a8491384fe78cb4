//! The one task that sends: it takes events from the queue, groups them into one request per partition, and
//! keeps hold of each until its outcome is certain.
//!
//! What the writer has taken is its **round**: requests in the order in which they are to be sent. A request
//! leaves the round when its events are resolved. When the connection is lost the round stays, and recovery
//! finds out, before anything is sent again, which of it has arrived.
//!
//! # Recovery
//!
//! Requests to one partition follow one another, so whatever an ambiguous request left in the log is behind
//! the last confirmed offset of that partition. The writer reads from there to the high watermark, looks for
//! the ids of its own events, resolves what it finds and sends only the rest.

mod request;
mod sessions;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::request::{Request, send_all};
use self::sessions::Sessions;
use super::entry::unknown;
use super::shared::Shared;
use super::supervisor;
use super::transport::{Session, Transport};
use crate::error::{AppendFailure, Error};
use crate::event::EventId;
use crate::limits;
use crate::log::Leftover;
use crate::position::{Offset, PartitionId};
use crate::state::Recovered;
use crate::watermark::PartitionWatermarks;

pub(super) struct Writer<E, T: Transport> {
    shared: Arc<Shared<E>>,
    transport: Arc<T>,
    round: VecDeque<Request<E>>,
    /// Per partition: everything of ours that is unconfirmed is at this offset or behind it. `None` until
    /// the first connection.
    unconfirmed_from: Vec<Option<Offset>>,
    /// Per partition: the last event that was confirmed, by which the partition is known again.
    confirmed: Vec<Option<(Offset, EventId)>>,
    /// Per partition, only while a round is taken.
    shares: Vec<Share>,
}

/// What a round has of one partition.
#[derive(Clone, Default)]
struct Share {
    events: usize,
    bytes: usize,
    /// Which of its requests that is.
    request: Option<usize>,
}

impl<E: Send + 'static, T: Transport> Writer<E, T> {
    pub(super) fn new(shared: Arc<Shared<E>>, transport: Arc<T>) -> Self {
        let unconfirmed_from = vec![None; transport.partitions() as usize];
        let confirmed = vec![None; unconfirmed_from.len()];
        let shares = vec![Share::default(); unconfirmed_from.len()];
        Self { shared, transport, round: VecDeque::new(), unconfirmed_from, confirmed, shares }
    }

    /// Sends until the log is closed and everything is sent, or the deadline of closing has passed. Ending,
    /// in whatever way, resolves every ticket: see the `Drop` below.
    pub(super) async fn run(mut self, session: Option<T::Session>) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            biased;
            () = self.serve(session) => {}
            () = shared.closing_deadline() => {}
        }
    }

    async fn serve(&mut self, mut session: Option<T::Session>) {
        loop {
            let connected = match session.take() {
                Some(session) => Some(session),
                None => self.reconnect().await,
            };
            let Some(mut session) = connected else { return };
            let error = match self.recover(&mut session).await {
                Ok(()) => {
                    self.shared.connected();
                    match self.drain(session).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            tracing::warn!(error = &error as &dyn std::error::Error, "the connection to the log was lost");
            self.shared.away();
            self.round.iter_mut().for_each(Request::tell_buffered);
        }
    }

    /// A new connection; `None` when the log is closing and there is nothing left to send.
    async fn reconnect(&mut self) -> Option<T::Session> {
        let (shared, transport) = (Arc::clone(&self.shared), Arc::clone(&self.transport));
        let mut attempts = supervisor::Attempts::new(&shared);
        loop {
            self.expire();
            let expiry = self.next_expiry();
            tokio::select! {
                biased;
                () = shared.closing(), if shared.is_finished() => return None,
                session = attempts.connect(&*transport) => return Some(session),
                () = sleep_until(expiry) => {}
                // Closing changes what to wait for.
                () = shared.closing(), if !shared.is_closing() => {}
            }
        }
    }

    /// Sends all there is, as it comes. Returns when the log is closing and nothing is left.
    async fn drain(&mut self, session: T::Session) -> Result<(), Error> {
        let mut sessions = Sessions::new(Arc::clone(&self.transport), session);
        loop {
            while !self.round.is_empty() {
                self.send_round(&mut sessions).await?;
            }
            self.shared.resolved();
            self.take_round();
            if !self.round.is_empty() {
                continue;
            }
            if self.shared.is_finished() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.shared.work() => {}
                error = sessions.lost() => return Err(error),
            }
        }
    }

    fn take_round(&mut self) {
        let config = &self.shared.config;
        let shares = &mut self.shares;
        let taken = self.shared.take(|entry| {
            let Share { events, bytes, .. } = &mut shares[entry.partition.0 as usize];
            *events += 1;
            *bytes += entry.bytes();
            *events == 1 || (*events <= config.request_events && *bytes <= config.request_bytes)
        });
        for entry in taken {
            let share = &mut shares[entry.partition.0 as usize];
            let at = *share.request.get_or_insert_with(|| {
                self.round.push_back(Request::with_capacity(entry.partition, share.events));
                self.round.len() - 1
            });
            self.round[at].push(entry);
        }
        for request in &self.round {
            self.shares[request.partition.0 as usize] = Share::default();
        }
    }

    /// Sends the requests of the round, those of different partitions at the same time as far as the transport has
    /// connections for it. What is left afterwards is to be sent again.
    async fn send_round(&mut self, sessions: &mut Sessions<T>) -> Result<(), Error> {
        let sessions = sessions.for_sending(self.round.len());
        let sent = send_all(self.round.iter_mut(), sessions).await;
        for request in &self.round {
            if let Some((last, id)) = request.confirmed() {
                let partition = request.partition.0 as usize;
                self.unconfirmed_from[partition] = Some(last.next());
                self.confirmed[partition] = Some((last, id));
            }
        }
        self.round = std::mem::take(&mut self.round).into_iter().flat_map(Request::rest).collect();
        sent
    }

    /// Finds out what became of the requests that may have arrived.
    async fn recover(&mut self, session: &mut T::Session) -> Result<(), Error> {
        let watermarks = session.watermarks().await?;
        for at in 0..self.round.len() {
            let request = &self.round[at];
            if !request.may_have_arrived {
                continue;
            }
            let partition = request.partition;
            // A request is only sent after a first connection has filled this in.
            let from = self.unconfirmed_from[partition.0 as usize].unwrap_or(Offset::ZERO);
            let marks = watermarks.get(partition).unwrap_or(PartitionWatermarks { low: from, high: from });
            // It was purged, or lost its tail: anything of ours may be anywhere in what is left, or gone.
            let confirmed = self.confirmed[partition.0 as usize];
            let ours = request.ids().collect();
            let was_cut = marks.high < from || !is_known_again(session, partition, confirmed).await?;
            let from = if was_cut { marks.low } else { from };
            let mut seen = read_back(session, partition, &ours, from..marks.high).await?;
            if was_cut {
                seen.incomplete = true;
                self.unconfirmed_from[partition.0 as usize] = Some(from);
                self.confirmed[partition.0 as usize] = None;
            }
            self.settle(at, &seen);
        }
        self.round.retain(|request| !request.is_empty());
        for (partition, marks) in watermarks.iter() {
            let at = partition.0 as usize;
            let Some(from) = self.unconfirmed_from.get_mut(at) else { continue };
            if from.is_some_and(|from| marks.high < from) {
                self.confirmed[at] = None;
            }
            *from = Some(from.map_or(marks.high, |from| from.min(marks.high)));
        }
        Ok(())
    }

    /// Resolves what was seen of the request at `at`, and keeps what is to be sent again.
    fn settle(&mut self, at: usize, seen: &ReadBack) {
        let request = &mut self.round[at];
        request.may_have_arrived = false;
        let from = &mut self.unconfirmed_from[request.partition.0 as usize];
        let confirmed = &mut self.confirmed[request.partition.0 as usize];
        let mut recovered = Recovered::default();
        request.filter(|mut entry| match seen.found.get(&entry.id) {
            Some(&offset) => {
                if *from < Some(offset.next()) {
                    *from = Some(offset.next());
                    *confirmed = Some((offset, entry.id));
                }
                entry.commit(Some(offset));
                recovered.found += 1;
                None
            }
            // It may have been appended and then removed by retention before anybody could look.
            None if seen.incomplete => {
                drop(entry.fail(unknown()));
                recovered.unknown += 1;
                None
            }
            None => {
                entry.may_be_under_way = true;
                recovered.sent_again += 1;
                Some(entry)
            }
        });
        self.shared.recovered(recovered);
    }

    fn next_expiry(&self) -> Option<Instant> {
        let expiry = self.shared.config.expiry?;
        let oldest = self.round.iter().filter_map(Request::oldest).min();
        let in_round = oldest.and_then(|oldest| oldest.checked_add(expiry));
        in_round.into_iter().chain(self.shared.next_expiry()).min()
    }

    /// Hands back what has waited too long: as unknown what was sent, as expired what was not.
    fn expire(&mut self) {
        let Some(expiry) = self.shared.config.expiry else {
            return;
        };
        let now = Instant::now();
        for request in &mut self.round {
            let sent = request.may_have_arrived;
            request.filter(|entry| {
                if now.duration_since(entry.accepted_at) < expiry {
                    return Some(entry);
                }
                let unsure = sent || entry.may_be_under_way;
                drop(entry.fail(if unsure { unknown() } else { AppendFailure::Expired(expiry) }));
                None
            });
        }
        self.round.retain(|request| !request.is_empty());
        if self.round.is_empty() {
            self.shared.resolved();
        }
        self.shared.expire();
    }
}

impl<E, T: Transport> Drop for Writer<E, T> {
    /// Resolves every ticket, also when the task is dropped by a runtime that shuts down.
    fn drop(&mut self) {
        let mut leftover = Leftover::default();
        for request in self.round.drain(..) {
            let sent = request.may_have_arrived;
            for entry in request.into_entries() {
                let unsure = sent || entry.may_be_under_way;
                leftover.fail(entry, if unsure { unknown() } else { AppendFailure::Closed });
            }
        }
        self.shared.end(leftover);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Whether a partition still has the last event that was confirmed, where it was. One that was purged and has grown
/// again has another there.
async fn is_known_again<S: Session>(
    session: &mut S,
    partition: PartitionId,
    confirmed: Option<(Offset, EventId)>,
) -> Result<bool, Error> {
    let Some((offset, id)) = confirmed else { return Ok(true) };
    let fetched = session.fetch(partition, offset, 1).await?;
    // Nothing there is no sign of it: retention may have been there first.
    Ok(fetched.records.first().is_none_or(|record| record.offset != offset || record.id == id))
}

/// What reading back has shown.
struct ReadBack {
    found: HashMap<EventId, Offset>,
    /// Part of what had to be read was no longer retained.
    incomplete: bool,
}

/// How often an empty answer from before the high watermark is asked again, and how long to wait between.
pub(super) const EMPTY_ANSWERS: usize = 100;
pub(super) const EMPTY_ANSWER_WAIT: Duration = Duration::from_millis(10);

/// Looks for our events in these offsets of a partition.
async fn read_back<S: Session>(
    session: &mut S,
    partition: PartitionId,
    ours: &HashSet<EventId>,
    offsets: Range<Offset>,
) -> Result<ReadBack, Error> {
    let mut seen = ReadBack { found: HashMap::with_capacity(ours.len()), incomplete: false };
    let (mut next, mut empty) = (offsets.start, 0);
    while next < offsets.end {
        let fetched = session.fetch(partition, next, limits::FETCH_RECORDS).await?;
        if let Some(low) = fetched.low.filter(|&low| low > next) {
            seen.incomplete = true;
            next = low;
        }
        let Some(last) = fetched.records.last() else {
            // No proof of the end: faults of the log look like this too.
            empty += 1;
            if empty > EMPTY_ANSWERS {
                return Err(Error::Unavailable(Some("the log does not return what it says it has".into())));
            }
            tokio::time::sleep(EMPTY_ANSWER_WAIT).await;
            continue;
        };
        next = next.max(last.offset.next());
        let found = fetched.records.iter().filter(|record| ours.contains(&record.id));
        for record in found {
            // The first copy is the one that consumers deliver.
            seen.found.entry(record.id).or_insert(record.offset);
        }
    }
    Ok(seen)
}
