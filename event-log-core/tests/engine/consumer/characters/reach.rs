//! The transport that reaches the server of characters.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use event_log_core::engine::{
    Assignment, Assignments, CommitMode, Connect, FetchRequest, FetchResponse, GroupMember, KnownEnd,
    Message, ProducerConnection, SendError, Transport, TransportProperties,
};
use event_log_core::{
    CommitErrorKind, Error, Offset, PartitionId, PartitionWatermarks, Timestamp, Watermarks,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::server::{Character, Part, Server, fault};

pub(crate) struct Reach(pub(crate) Arc<Server>);

/// Nothing is appended over the log: the server does that itself.
pub(crate) struct Producer;

impl ProducerConnection for Producer {
    async fn send(&mut self, _: PartitionId, _: &[Message]) -> Result<Option<Offset>, SendError> {
        Err(SendError::Lost { error: Error::Unavailable(None), may_have_taken_effect: false })
    }

    async fn fetch(&self, _: FetchRequest) -> Result<FetchResponse, Error> {
        Err(Error::Unavailable(None))
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }
}

pub(crate) struct Member {
    server: Arc<Server>,
    is_dead: AtomicBool,
    died: Notify,
}

async fn takes(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

impl Member {
    /// As a socket does that is closed: all that is under way over it fails.
    fn dies(&self) {
        self.is_dead.store(true, Relaxed);
        self.died.notify_waiters();
    }

    async fn over<T>(&self, call: impl Future<Output = T>) -> Result<T, Error> {
        let mut died = std::pin::pin!(self.died.notified());
        died.as_mut().enable();
        if self.is_dead.load(Relaxed) {
            return Err(Error::Unavailable(None));
        }
        tokio::select! {
            biased;
            () = died => Err(Error::Unavailable(None)),
            answer = call => Ok(answer),
        }
    }

    fn has_news(&self, ends: &[KnownEnd], known: Option<u64>) -> (Vec<PartitionId>, bool) {
        self.server.look(|state| {
            let is_elsewhere = |end: &&KnownEnd| {
                let part = &state.parts[end.partition.0 as usize];
                part.high() != end.end || end.incarnation.is_some_and(|known| known != part.incarnation)
            };
            let news: Vec<_> = ends.iter().filter(is_elsewhere).map(|end| end.partition).collect();
            (news, known != Some(state.generation))
        })
    }

    fn store(&self, partition: PartitionId, next: Offset, mode: CommitMode) -> Result<(), CommitErrorKind> {
        let fate = self.server.change(|state| {
            let part = &mut state.parts[partition.0 as usize];
            match mode {
                CommitMode::Initialise => _ = part.place.get_or_insert(next),
                CommitMode::Replace if part.is_away => return Err(CommitErrorKind::Revoked),
                CommitMode::Replace => {
                    part.stores += 1;
                    match part.character {
                        Character::CommitLoses { every } if part.stores % every == 0 => {
                            return Ok(true);
                        }
                        _ => part.place = Some(next),
                    }
                }
            }
            Ok(false)
        })?;
        if fate {
            self.dies();
            return Err(CommitErrorKind::Failed(Error::Unavailable(None)));
        }
        Ok(())
    }
}

impl Reach {
    async fn ask(&self, name: &'static str) {
        self.0.called(name);
        takes(self.0.look(|state| state.asks_take)).await;
    }
}

impl Transport for Reach {
    type Producer = Producer;
    type Member = Member;

    fn properties(&self) -> TransportProperties {
        TransportProperties::new(self.0.look(|state| state.parts.len() as u32))
    }

    async fn connect(&self, _: Connect) -> Result<Producer, Error> {
        Ok(Producer)
    }

    async fn join(&self, _: &str, _: u128) -> Result<Member, Error> {
        self.0.called("join");
        takes(self.0.look(|state| state.join_takes)).await;
        Ok(Member { server: Arc::clone(&self.0), is_dead: AtomicBool::new(false), died: Notify::new() })
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.ask("watermarks").await;
        let of = |part: &Part| PartitionWatermarks { low: Offset::ZERO, high: part.high() };
        Ok(self.0.look(|state| Watermarks::new(state.parts.iter().map(of).collect())))
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        self.ask("offsets_at").await;
        self.0.look(|state| {
            let of = |&(partition, timestamp): &(PartitionId, Timestamp)| {
                let part = &state.parts[partition.0 as usize];
                Offset(part.records.partition_point(|record| record.timestamp < timestamp) as u64)
            };
            Ok(times.iter().map(of).collect())
        })
    }

    async fn committed(&self, _: &str) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        self.ask("committed").await;
        takes(self.0.look(|state| state.places_take)).await;
        let of = |part: &Part| {
            if part.character == Character::NoPlace { Err(fault()) } else { Ok(part.place) }
        };
        Ok(self.0.look(|state| state.parts.iter().map(of).collect()))
    }

    async fn delete_group(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

impl GroupMember for Member {
    async fn assignments(&self, known: Option<u64>) -> Result<Option<Assignments>, Error> {
        self.server.called("assignments");
        self.over(takes(self.server.look(|state| state.asks_take))).await?;
        Ok(self.server.look(|state| {
            let ours = state.parts.iter().enumerate().filter(|(_, part)| !part.is_away);
            let ours =
                ours.map(|(nth, part)| Assignment { partition: PartitionId(nth as u32), epoch: part.epoch });
            (known != Some(state.generation))
                .then(|| Assignments { generation: state.generation, partitions: ours.collect() })
        }))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        self.server.called("fetch");
        let nth = request.partition.0 as usize;
        let (time, character, count) = self.server.change(|state| {
            let part = &mut state.parts[nth];
            part.fetches += 1;
            (part.takes, part.character, part.fetches)
        });
        self.over(takes(time)).await?;
        match character {
            Character::Loses { every } if count % every == 0 => {
                self.dies();
                return Err(Error::Unavailable(None));
            }
            _ => {}
        }
        let answer = self.server.look(|state| state.parts[nth].answer(request));
        Ok(answer)
    }

    async fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        mode: CommitMode,
    ) -> Vec<Result<(), CommitErrorKind>> {
        self.server.called("commit");
        let time = self.server.look(|state| state.asks_take);
        let mut answers = Vec::new();
        for &(partition, next) in places {
            answers.push(match self.over(takes(time)).await {
                Ok(()) => self.store(partition, next, mode),
                Err(error) => Err(CommitErrorKind::Failed(error)),
            });
        }
        answers
    }

    async fn wait(&self, ends: &[KnownEnd], known: Option<u64>, deadline: Instant) -> Vec<PartitionId> {
        self.server.called("wait");
        let time = self.server.look(|state| state.asks_take + state.wait_takes);
        let waiting = async {
            takes(time).await;
            loop {
                let mut changed = std::pin::pin!(self.server.changed.notified());
                changed.as_mut().enable();
                let (news, is_other) = self.has_news(ends, known);
                if !news.is_empty() || is_other || Instant::now() >= deadline {
                    return news;
                }
                tokio::select! {
                    biased;
                    () = changed => {}
                    () = sleep_until(deadline) => {}
                }
            }
        };
        self.over(waiting).await.unwrap_or_default()
    }

    async fn leave(&self) -> Result<(), Error> {
        Ok(())
    }
}
