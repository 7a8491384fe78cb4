//! The folder as the engine's [`Transport`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event_log_core::engine::{
    Assignments, CommitMode, FetchRequest, FetchResponse, GroupMember, KnownEnd, Message, ProducerConnection,
    SendError, Transport, TransportProperties,
};
use event_log_core::{CommitErrorKind, Error, Offset, PartitionId, Timestamp, Watermarks};
use tokio::time::Instant;

use super::JournalBug;
use super::plan;
use super::server::{Server, State, failed, injected};

/// Reaches the folder of a [`JournalHarness`](super::JournalHarness).
#[derive(Clone)]
pub struct JournalTransport {
    server: Arc<Server>,
    bug: Option<JournalBug>,
}

impl JournalTransport {
    pub(super) const fn new(server: Arc<Server>, bug: Option<JournalBug>) -> Self {
        Self { server, bug }
    }

    fn connection(&self) -> Result<Connection, Error> {
        let number = self.server.look(|state| state.up.then_some(state.connections));
        let number = number.ok_or_else(disconnected)?;
        Ok(Connection { server: Arc::clone(&self.server), number, dead: false })
    }
}

fn disconnected() -> Error {
    Error::Unavailable(Some(Box::new(io::Error::from(io::ErrorKind::ConnectionReset))))
}

/// A connection, good until a fault cuts it.
struct Connection {
    server: Arc<Server>,
    number: u64,
    /// Cut alone, without the others.
    dead: bool,
}

impl Connection {
    /// Asks over the connection, if it is good.
    fn ask<T>(&self, ask: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let good = |state: &State| !self.dead && state.up && state.connections == self.number;
        self.server.look(|state| if good(state) { ask(state) } else { Err(disconnected()) })
    }

    fn is_good(&self) -> bool {
        self.ask(|_| Ok(())).is_ok()
    }

    /// Completes when it is so.
    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.server.changed.notified());
            // Registered before looking, so that no change gets lost in between.
            changed.as_mut().enable();
            if is_so() {
                return;
            }
            changed.await;
        }
    }
}

impl Transport for JournalTransport {
    type Producer = JournalProducer;
    type Member = JournalMember;

    fn properties(&self) -> TransportProperties {
        TransportProperties::new(self.server.look(|state| state.partitions()))
    }

    async fn connect(&self) -> Result<JournalProducer, Error> {
        let slow = self.server.look(|state| state.plan.slow_connects);
        if slow > Duration::ZERO {
            tokio::time::sleep(slow).await;
        }
        Ok(JournalProducer { connection: self.connection()?, bug: self.bug })
    }

    async fn join(&self, group: &str, instance: u128) -> Result<JournalMember, Error> {
        let connection = self.connection()?;
        let (group, member) = self.server.change(|state| {
            let group = state.groups.name(group);
            let member = state.groups.join(&group, instance);
            (group, member)
        });
        Ok(JournalMember { connection, group, member, left: AtomicBool::new(false), bug: self.bug })
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.connection()?.ask(|state| Ok(state.watermarks()))
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        self.connection()?.ask(|state| {
            let offset = |&(partition, time): &(PartitionId, Timestamp)| {
                state
                    .partition(partition)
                    .map(|(partition, _)| partition.offset_at(time))
                    .ok_or_else(injected)
            };
            times.iter().map(offset).collect()
        })
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        self.connection()?.ask(|state| {
            let places = state.groups.places(&state.groups.name(group));
            let of = |(number, partition): (usize, &PartitionId)| {
                let by_number = self.bug == Some(JournalBug::PlacesByNumber);
                let at = if by_number { number } else { partition.0 as usize };
                Ok(places.get(at).copied().flatten())
            };
            Ok(partitions.iter().enumerate().map(of).collect())
        })
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let deleted = self.connection()?.ask(|state| {
            let group = state.groups.name(group);
            state.with_groups(|groups, disk| groups.delete(disk, &group)).map_err(failed)
        });
        if deleted? { Ok(()) } else { Err(Error::invalid("group", "still has members")) }
    }
}

/// The producer's connection.
pub struct JournalProducer {
    connection: Connection,
    bug: Option<JournalBug>,
}

impl JournalProducer {
    /// Appends as well, a little later, and goes on doing so when it is given up.
    async fn send_on(&self, partition: PartitionId, messages: &[Message]) {
        let (server, messages) = (Arc::clone(&self.connection.server), messages.to_vec());
        let sending = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let clock = Arc::clone(&server.clock);
            server.change(|state| state.append(partition, &messages, &*clock)).map(drop)
        });
        sending.await.expect("it is sent").expect("it is appended");
    }
}

impl ProducerConnection for JournalProducer {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        let slow = self.connection.server.look(|state| state.plan.slow_appends);
        if slow > Duration::ZERO {
            tokio::time::sleep(slow).await;
        }
        if self.bug == Some(JournalBug::GivenUpArrives) {
            self.send_on(partition, messages).await;
            return Ok(None);
        }
        let clock = Arc::clone(&self.connection.server.clock);
        let lost = |error, may_have_taken_effect| SendError::Lost { error, may_have_taken_effect };
        let sent = self.connection.ask(|state| {
            if plan::draw(&mut state.plan.lose_requests) {
                return Ok(None);
            }
            if plan::draw(&mut state.plan.hold_requests) {
                state.plan.held.push((partition, messages.to_vec()));
                return Ok(None);
            }
            let answered = !plan::draw(&mut state.plan.lose_replies);
            let base = state.append(partition, messages, &*clock).map_err(failed)?;
            Ok(answered.then_some(base))
        });
        self.connection.server.changed.notify_waiters();
        match sent {
            Ok(Some(base)) => Ok(Some(base)),
            Ok(None) => {
                self.connection.dead = true;
                Err(lost(disconnected(), true))
            }
            Err(error) => {
                let may_have = error.may_have_taken_effect();
                Err(lost(error, may_have))
            }
        }
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let after = request.after.filter(|_| self.bug != Some(JournalBug::LandmarkIgnoredApart));
        self.connection.ask(|state| state.fetch(FetchRequest { after, ..request }))
    }

    async fn lost(&mut self) -> Error {
        self.connection.until(|| !self.connection.is_good()).await;
        disconnected()
    }

    async fn close(self) {}
}

/// A consumer's connection.
pub struct JournalMember {
    connection: Connection,
    group: String,
    member: u64,
    left: AtomicBool,
    bug: Option<JournalBug>,
}

impl JournalMember {
    fn leave_group(&self) {
        if self.left.swap(true, Ordering::AcqRel) {
            return;
        }
        let leave = |state: &mut State| {
            // After a crash there is no such member.
            if state.connections == self.connection.number {
                state.groups.leave(&self.group, self.member);
            }
        };
        if self.bug == Some(JournalBug::LeaveWakesNone) {
            self.connection.server.look(leave);
        } else {
            self.connection.server.change(leave);
        }
    }

    fn has_changed(&self, ends: &[KnownEnd], known: Option<u64>) -> bool {
        let changed = self.connection.ask(|state| {
            let generation = Some(state.groups.generation(&self.group));
            Ok(generation != known || ends.iter().any(|end| state.has_moved(end)))
        });
        changed.unwrap_or(true)
    }
}

impl GroupMember for JournalMember {
    async fn assignments(&self, known: Option<u64>) -> Result<Option<Assignments>, Error> {
        self.connection.ask(|state| {
            let current = state.groups.assignments(&self.group, self.member);
            Ok((known != Some(current.generation)).then_some(current))
        })
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let server = &self.connection.server;
        let slow = server.look(|state| state.plan.slow_fetches);
        if slow > Duration::ZERO {
            tokio::time::sleep(slow).await;
        }
        self.connection.until(|| server.look(|state| !state.plan.stalled)).await;
        self.connection.ask(|state| state.fetch(request))
    }

    async fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        mode: CommitMode,
    ) -> Vec<Result<(), CommitErrorKind>> {
        let commit = |&(partition, next): &(PartitionId, Offset)| {
            let stored = self.connection.ask(|state| {
                if plan::draw_of(&mut state.plan.fail_commits, partition) {
                    return Err(injected());
                }
                let of = (&*self.group, self.member);
                let stored =
                    state.with_groups(|groups, disk| groups.commit(disk, of, (partition, next), mode));
                stored.map_err(failed)
            });
            match stored {
                Ok(true) => Ok(()),
                Ok(false) => Err(CommitErrorKind::Revoked),
                Err(error) => Err(CommitErrorKind::Failed(error)),
            }
        };
        places.iter().map(commit).collect()
    }

    async fn wait(&self, ends: &[KnownEnd], known: Option<u64>, deadline: Instant) -> Vec<PartitionId> {
        let change = self.connection.until(|| self.has_changed(ends, known));
        let _ = tokio::time::timeout_at(deadline, change).await;
        ends.iter().map(|end| end.partition).collect()
    }

    async fn leave(&self) -> Result<(), Error> {
        let connected = self.connection.ask(|_| Ok(()));
        self.leave_group();
        connected
    }
}

impl Drop for JournalMember {
    fn drop(&mut self) {
        self.leave_group();
    }
}
