//! The transport that reaches the server: connections and members of a group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use event_log_core::engine::{
    Assignment, Assignments, CommitMode, FetchRequest, FetchResponse, GroupMember, KnownEnd, Message,
    ProducerConnection, SendError, Transport, TransportProperties,
};
use event_log_core::{
    CommitErrorKind, Error, Offset, PartitionId, PartitionWatermarks, Timestamp, Watermarks,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{Fetched, MS, Part, Server, fault};

pub(crate) struct Reach(pub(crate) Arc<Server>);

pub(crate) struct Member {
    server: Arc<Server>,
    id: u64,
    link: u64,
    left: AtomicBool,
    dead: AtomicBool,
    died: Notify,
}

impl Member {
    /// As a socket is closed: all that is under way over it fails.
    fn dies(&self) {
        self.dead.store(true, Relaxed);
        self.died.notify_waiters();
    }

    fn check(&self) -> Result<(), Error> {
        let state = self.server.0.lock();
        let is_member = !state.drop_unknown || state.members.iter().any(|&(id, _)| id == self.id);
        if state.up && state.link == self.link && !self.dead.load(Relaxed) && is_member {
            Ok(())
        } else {
            Err(Error::Unavailable(None))
        }
    }

    fn go(&self) {
        if !self.left.swap(true, Relaxed) {
            let mut state = self.server.0.lock();
            let before = state.members.len();
            state.members.retain(|&(id, _)| id != self.id);
            if state.members.len() != before {
                state.rebalance();
            }
        }
    }
}

/// Counts a fetch while it is under way.
struct UnderWay(Arc<Server>, (u64, u32));

impl UnderWay {
    fn new(server: &Arc<Server>, of: (u64, u32)) -> Self {
        server.change(|state| {
            let (count, most) = state.under_way.entry(of).or_default();
            *count += 1;
            *most = (*most).max(*count);
        });
        Self(Arc::clone(server), of)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.change(|state| state.under_way.entry(self.1).or_default().0 -= 1);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.go();
    }
}

impl Reach {
    async fn ask(&self) -> Result<(), Error> {
        self.0.takes(|state| state.ask_takes).await;
        if !self.0.0.lock().up {
            return Err(Error::Unavailable(None));
        }
        if self.0.goes_wrong(40) { Err(fault()) } else { Ok(()) }
    }
}

pub(crate) struct Producer(Arc<Server>);

impl ProducerConnection for Producer {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        self.0.takes(|state| state.ask_takes).await;
        let lost = || SendError::Lost { error: Error::Unavailable(None), may_have_taken_effect: true };
        if self.0.goes_wrong(6) {
            return Err(lost());
        }
        let mut first = None;
        for message in messages {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            let offset = self.0.append_as(partition.0 as usize, message.id.as_u128(), &text);
            first.get_or_insert(offset);
        }
        if self.0.goes_wrong(6) {
            return Err(lost());
        }
        Ok(first)
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        self.0.called("fetch_isolated");
        let nth = request.partition.0 as usize;
        let is_up = || if self.0.0.lock().up { Ok(()) } else { Err(Error::Unavailable(None)) };
        if let Some(takes) = self.0.change(|state| state.parts[nth].isolated_takes) {
            tokio::time::sleep(takes).await;
        }
        if self.0.change(|state| state.parts[nth].isolated_loses) {
            return Err(Error::Unavailable(None));
        }
        self.0.fetch(request, is_up).await?.answer()
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }

    async fn close(self) {}
}

impl Transport for Reach {
    type Producer = Producer;
    type Member = Member;

    fn properties(&self) -> TransportProperties {
        let state = self.0.0.lock();
        let mut properties =
            TransportProperties::new(state.partitions_said.unwrap_or(state.parts.len() as u32));
        properties.reads_ahead = state.reads_ahead;
        properties
    }

    async fn connect(&self) -> Result<Producer, Error> {
        self.0.called("connect");
        self.0.takes(|state| state.ask_takes + state.connect_takes).await;
        if !self.0.0.lock().up || self.0.0.lock().connect_fails {
            return Err(Error::Unavailable(None));
        }
        Ok(Producer(Arc::clone(&self.0)))
    }

    async fn join(&self, _: &str, instance: u128) -> Result<Member, Error> {
        self.0.called("join");
        self.0.takes(|state| state.join_takes).await;
        let mut state = self.0.0.lock();
        if state.join_refused {
            return Err(Error::Unauthorized(None));
        }
        if !state.up {
            return Err(Error::Unavailable(None));
        }
        let id = state.next_member;
        state.next_member += 1;
        state.members.push((id, instance));
        state.rebalance();
        let link = state.link;
        drop(state);
        Ok(Member {
            server: Arc::clone(&self.0),
            id,
            link,
            left: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            died: Notify::new(),
        })
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.0.called("watermarks");
        self.0.takes(|state| state.marks_take).await;
        self.ask().await?;
        if self.0.0.lock().marks_fail {
            return Err(fault());
        }
        let of = |part: &Part| PartitionWatermarks { low: Offset(part.low), high: Offset(part.high) };
        let answer = Watermarks::new(self.0.0.lock().parts.iter().map(of).collect());
        self.0.reply(|state| state.marks_reply).await;
        Ok(answer)
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        self.0.called("offsets_at");
        self.ask().await?;
        let answer = {
            let state = self.0.0.lock();
            let of = |&(partition, timestamp): &(PartitionId, Timestamp)| {
                let part = &state.parts[partition.0 as usize];
                let found = part.records.iter().find(|record| record.timestamp >= timestamp);
                found.map_or(Offset(part.high), |record| record.offset)
            };
            times.iter().map(of).collect()
        };
        self.0.reply(|_| std::time::Duration::ZERO).await;
        Ok(answer)
    }

    async fn committed(
        &self,
        _: &str,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        self.0.called("committed");
        self.0.takes(|state| state.places_take).await;
        self.ask().await?;
        let answer = {
            let state = self.0.0.lock();
            if state.places_fail {
                return Err(fault());
            }
            if state.places_unavailable {
                return Err(Error::Unavailable(None));
            }
            let of = |partition: &PartitionId| {
                let part = &state.parts[partition.0 as usize];
                if part.place_fails { Err(fault()) } else { Ok(part.place) }
            };
            partitions.iter().map(of).collect()
        };
        self.0.reply(|state| state.places_reply).await;
        Ok(answer)
    }

    async fn delete_group(&self, _: &str) -> Result<(), Error> {
        let mut state = self.0.0.lock();
        if !state.members.is_empty() {
            return Err(Error::InvalidArgument { name: "group", problem: "has members".into() });
        }
        // With it goes which member had what: the next one begins a new epoch.
        state.parts.iter_mut().for_each(|part| (part.place, part.last_instance) = (None, None));
        Ok(())
    }
}

impl Member {
    async fn wait_reply(&self, asked: std::time::Duration) {
        let takes = self.server.change(|state| {
            let most = state.wait_reply.as_millis() as u64;
            if most == 0 { std::time::Duration::ZERO } else { MS * state.below(most + 1) as u32 }
        });
        if !(takes + asked).is_zero() {
            tokio::time::sleep(takes + asked).await;
        }
    }
}

impl GroupMember for Member {
    async fn assignments(&self, known: Option<u64>) -> Result<Option<Assignments>, Error> {
        self.server.called("assignments");
        self.server.takes(|state| state.ask_takes).await;
        self.check()?;
        let answer = {
            let state = self.server.0.lock();
            let ours = state.parts.iter().enumerate().filter(|(_, part)| part.owner == Some(self.id));
            let ours =
                ours.map(|(nth, part)| Assignment { partition: PartitionId(nth as u32), epoch: part.epoch });
            (known != Some(state.generation))
                .then(|| Assignments { generation: state.generation, partitions: ours.collect() })
        };
        self.server.reply(|state| state.assignments_reply).await;
        Ok(answer)
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        self.server.called("fetch");
        let nth = request.partition.0 as usize;
        let _under_way = UnderWay::new(&self.server, (self.id, request.partition.0));
        if let Some(gate) = self.server.change(|state| state.parts[nth].blocks.take()) {
            let _ = gate.recv();
        }
        tokio::select! {
            biased;
            () = self.died.notified() => Err(Error::Unavailable(None)),
            answer = self.server.fetch(request, || self.check()) => {
                if matches!(answer, Ok(Fetched::Loses)) {
                    self.dies();
                }
                answer.and_then(Fetched::answer)
            }
        }
    }

    async fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        mode: CommitMode,
    ) -> Vec<Result<(), CommitErrorKind>> {
        self.server.called("commit");
        self.server.takes(|state| state.commit_takes).await;
        let mut answers = Vec::new();
        for &(partition, next) in places {
            if mode == CommitMode::Replace {
                let takes = self.server.change(|state| state.parts[partition.0 as usize].commit_takes);
                if !takes.is_zero() {
                    tokio::time::sleep(takes).await;
                }
            }
            if let Err(error) = self.check() {
                answers.push(Err(CommitErrorKind::Failed(error)));
                continue;
            }
            let is_due = self.server.change(|state| {
                let part = &mut state.parts[partition.0 as usize];
                part.commits += 1;
                part.commit_loses_every > 0 && part.commits % part.commit_loses_every == 0
            });
            if mode == CommitMode::Replace && is_due {
                self.dies();
                answers.push(Err(CommitErrorKind::Failed(Error::Unavailable(None))));
                continue;
            }
            let is_refused = || {
                mode == CommitMode::Replace && self.server.0.lock().parts[partition.0 as usize].commit_fails
            };
            if is_refused() || self.server.goes_wrong(25) {
                answers.push(Err(CommitErrorKind::Failed(fault())));
                continue;
            }
            if mode == CommitMode::Replace && self.server.0.lock().parts[partition.0 as usize].commit_loses {
                self.dies();
                answers.push(Err(CommitErrorKind::Failed(Error::Unavailable(None))));
                continue;
            }
            let mut state = self.server.0.lock();
            let part = &mut state.parts[partition.0 as usize];
            match mode {
                CommitMode::Replace if part.owner != Some(self.id) => {
                    answers.push(Err(CommitErrorKind::Revoked));
                    continue;
                }
                CommitMode::Replace => part.place = Some(next),
                CommitMode::Initialise => _ = part.place.get_or_insert(next),
            }
            if mode == CommitMode::Replace && std::mem::take(&mut state.commit_reply_lost) {
                state.link += 1;
                answers.push(Err(CommitErrorKind::Failed(Error::Unavailable(None))));
                continue;
            }
            drop(state);
            answers.push(if self.server.goes_wrong(25) {
                Err(CommitErrorKind::Failed(fault()))
            } else {
                Ok(())
            });
        }
        self.server.reply(|_| std::time::Duration::ZERO).await;
        answers
    }

    async fn wait(&self, ends: &[KnownEnd], known: Option<u64>, deadline: Instant) -> Vec<PartitionId> {
        self.server.called("wait");
        let asked = self.server.change(|state| {
            ends.iter().map(|end| state.parts[end.partition.0 as usize].news_take).max().unwrap_or_default()
        });
        self.server.takes(|state| state.wait_takes).await;
        if self.server.0.lock().wait_is_remote {
            // The server waits, and what it answers is there when it is looked at.
            let (server, ends, link) = (Arc::clone(&self.server), ends.to_vec(), self.link);
            let waiting = tokio::spawn(async move {
                loop {
                    {
                        let state = server.0.lock();
                        let news = ends.iter().filter(|end| {
                            let part = &state.parts[end.partition.0 as usize];
                            part.high != end.end.0
                                || end.incarnation.is_some_and(|known| known != part.incarnation)
                        });
                        let news: Vec<_> = news.map(|end| end.partition).collect();
                        let is_other = known != Some(state.generation) || !state.up || state.link != link;
                        if !news.is_empty() || is_other || Instant::now() >= deadline {
                            return news;
                        }
                    }
                    sleep_until(deadline.min(Instant::now() + 5 * MS)).await;
                }
            });
            let news = waiting.await.unwrap_or_default();
            self.wait_reply(asked).await;
            return news;
        }
        let news = loop {
            {
                let mut state = self.server.0.lock();
                let news = ends.iter().filter(|end| {
                    let part = &state.parts[end.partition.0 as usize];
                    part.high != end.end.0 || end.incarnation.is_some_and(|known| known != part.incarnation)
                });
                let mut news: Vec<_> = news.map(|end| end.partition).collect();
                let is_other = self.dead.load(Relaxed)
                    || known != Some(state.generation)
                    || !state.up
                    || state.link != self.link;
                let rumours = std::mem::take(&mut state.rumours);
                news.extend(rumours.into_iter().filter(|one| ends.iter().any(|end| end.partition == *one)));
                if !news.is_empty() || is_other || state.wait_is_early || Instant::now() >= deadline {
                    break news;
                }
            }
            sleep_until(deadline.min(Instant::now() + 5 * MS)).await;
        };
        self.wait_reply(asked).await;
        news
    }

    async fn leave(&self) -> Result<(), Error> {
        let is_there = self.check();
        self.go();
        is_there
    }
}
