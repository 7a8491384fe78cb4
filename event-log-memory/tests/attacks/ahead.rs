//! A log that reads ahead, answers late, stale and short, and fails now and then.

use bytes::Bytes;
use event_log_core::engine::{
    Assignment, Assignments, CommitMode, FetchRequest, FetchResponse, GroupMember, KnownEnd, Message,
    ProducerConnection, SendError, StoredMessage, Transport, TransportProperties,
};
use event_log_core::{
    CommitErrorKind, Error, EventId, Headers, Offset, PartitionId, PartitionWatermarks, Timestamp, Watermarks,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use crate::walks::Random;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const PARTITIONS: usize = 3;

#[derive(Default)]
pub(crate) struct Part {
    pub(crate) records: VecDeque<StoredMessage>,
    pub(crate) low: u64,
    pub(crate) high: u64,
    pub(crate) place: Option<Offset>,
    pub(crate) epoch: u64,
    pub(crate) away: bool,
}

pub(crate) struct State {
    pub(crate) parts: [Part; PARTITIONS],
    pub(crate) random: Random,
    pub(crate) chaos: bool,
    pub(crate) up: bool,
    pub(crate) link: u64,
    pub(crate) generation: u64,
    pub(crate) new_epochs: bool,
}

pub(crate) struct Server(pub(crate) Mutex<State>);

impl Server {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            parts: Default::default(),
            random: Random(seed ^ 0xabcd),
            chaos: false,
            up: true,
            link: 0,
            generation: 0,
            new_epochs: seed % 2 == 0,
        })))
    }

    pub(crate) fn draw(&self, bound: u64) -> u64 {
        let mut state = self.0.lock();
        if state.chaos { state.random.below(bound) } else { u64::MAX }
    }

    pub(crate) async fn delay(&self) {
        let wait = match self.draw(60) {
            0 => self.draw(3_000) as u32,
            1..20 => self.draw(60) as u32,
            _ => return,
        };
        tokio::time::sleep(MS * wait).await;
    }

    pub(crate) fn failed() -> Error {
        Error::Backend { retryable: true, may_have_taken_effect: true, error: "a fault".into() }
    }

    pub(crate) fn append(&self, partition: usize, number: u64, copy_of: Option<u64>, gap: u64) {
        let mut state = self.0.lock();
        let part = &mut state.parts[partition];
        part.high += gap;
        let offset = Offset(part.high);
        part.high += 1;
        let id = EventId::from_u128(u128::from(copy_of.unwrap_or(number)) << 8 | 1);
        let payload = Bytes::from(copy_of.unwrap_or(number).to_string());
        let timestamp = Timestamp(number);
        part.records.push_back(StoredMessage { offset, id, timestamp, headers: Headers::new(), payload });
    }
}

pub(crate) struct Flaky(pub(crate) Arc<Server>);

pub(crate) struct Link {
    pub(crate) server: Arc<Server>,
    pub(crate) link: u64,
}

impl Link {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let state = self.server.0.lock();
        if state.up && state.link == self.link { Ok(()) } else { Err(Error::Unavailable(None)) }
    }
}

impl Flaky {
    pub(crate) async fn ask(&self) -> Result<(), Error> {
        self.0.delay().await;
        if !self.0.0.lock().up {
            return Err(Error::Unavailable(None));
        }
        if self.0.draw(30) == 0 { Err(Server::failed()) } else { Ok(()) }
    }
}

impl Transport for Flaky {
    type Producer = Link;
    type Member = Link;

    fn properties(&self) -> TransportProperties {
        TransportProperties::new(PARTITIONS as u32)
    }

    async fn connect(&self) -> Result<Link, Error> {
        Ok(Link { server: Arc::clone(&self.0), link: 0 })
    }

    async fn join(&self, _: &str, _: u128) -> Result<Link, Error> {
        self.0.delay().await;
        let mut state = self.0.0.lock();
        if !state.up {
            return Err(Error::Unavailable(None));
        }
        if state.new_epochs {
            state.generation += 1;
            state.parts.iter_mut().for_each(|part| part.epoch += 1);
        }
        Ok(Link { server: Arc::clone(&self.0), link: state.link })
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.ask().await?;
        let marks = {
            let state = self.0.0.lock();
            let of = |part: &Part| PartitionWatermarks { low: Offset(part.low), high: Offset(part.high) };
            Watermarks::new(state.parts.iter().map(of).collect())
        };
        self.0.delay().await;
        Ok(marks)
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        self.ask().await?;
        let state = self.0.0.lock();
        let of = |&(partition, timestamp): &(PartitionId, Timestamp)| {
            let part = &state.parts[partition.0 as usize];
            let found = part.records.iter().find(|record| record.timestamp >= timestamp);
            found.map_or(Offset(part.high), |record| record.offset)
        };
        Ok(times.iter().map(of).collect())
    }

    async fn committed(
        &self,
        _: &str,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        self.ask().await?;
        let of = |partition: &PartitionId| self.0.0.lock().parts[partition.0 as usize].place;
        let places: Vec<_> = partitions.iter().map(of).collect();
        Ok(places
            .into_iter()
            .map(|place| if self.0.draw(20) == 0 { Err(Server::failed()) } else { Ok(place) })
            .collect())
    }

    async fn delete_group(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

impl ProducerConnection for Link {
    async fn send(&mut self, _: PartitionId, _: &[Message]) -> Result<Option<Offset>, SendError> {
        Ok(None)
    }

    async fn fetch(&self, _: FetchRequest) -> Result<FetchResponse, Error> {
        Ok(FetchResponse::default())
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }

    async fn close(self) {}
}

impl GroupMember for Link {
    async fn assignments(&self, known: Option<u64>) -> Result<Option<Assignments>, Error> {
        self.server.delay().await;
        self.check()?;
        let state = self.server.0.lock();
        if known == Some(state.generation) {
            return Ok(None);
        }
        let ours = state.parts.iter().enumerate().filter(|(_, part)| !part.away);
        let ours =
            ours.map(|(nth, part)| Assignment { partition: PartitionId(nth as u32), epoch: part.epoch });
        Ok(Some(Assignments { generation: state.generation, partitions: ours.collect() }))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        self.server.delay().await;
        self.check()?;
        let fate = self.server.draw(20);
        let answer = {
            let mut state = self.server.0.lock();
            let short = if state.chaos { 1 + state.random.below(20) as usize } else { usize::MAX };
            let part = &state.parts[request.partition.0 as usize];
            let there = part.records.iter().filter(|record| record.offset >= request.from);
            let records: Vec<_> = there.take(request.max_records.min(short)).cloned().collect();
            let is_all = records.last().map(|last| last.offset)
                == part.records.back().map(|last| last.offset)
                || records.is_empty();
            let (low, high) = (Offset(part.low), Offset(part.high));
            FetchResponse {
                scanned_to: is_all.then_some(high.max(request.from)),
                records,
                low: Some(low),
                high: (fate != 2).then_some(high),
                ..FetchResponse::default()
            }
        };
        if fate == 0 {
            return Err(Server::failed());
        }
        if fate == 1 {
            return Ok(FetchResponse { records: Vec::new(), scanned_to: None, ..answer });
        }
        self.server.delay().await;
        self.check()?;
        Ok(answer)
    }

    async fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        mode: CommitMode,
    ) -> Vec<Result<(), CommitErrorKind>> {
        self.server.delay().await;
        let mut answers = Vec::new();
        for &(partition, next) in places {
            if let Err(error) = self.check() {
                answers.push(Err(CommitErrorKind::Failed(error)));
                continue;
            }
            let fate = self.server.draw(20);
            if fate == 0 {
                answers.push(Err(CommitErrorKind::Failed(Server::failed())));
                continue;
            }
            let mut state = self.server.0.lock();
            let part = &mut state.parts[partition.0 as usize];
            match mode {
                CommitMode::Replace if part.away => {
                    answers.push(Err(CommitErrorKind::Revoked));
                    continue;
                }
                CommitMode::Replace => part.place = Some(next),
                _ => _ = part.place.get_or_insert(next),
            }
            answers.push(if fate == 1 { Err(CommitErrorKind::Failed(Server::failed())) } else { Ok(()) });
        }
        self.server.delay().await;
        answers
    }

    async fn wait(&self, ends: &[KnownEnd], known: Option<u64>, deadline: Instant) -> Vec<PartitionId> {
        loop {
            let (news, is_other) = {
                let state = self.server.0.lock();
                let news = ends.iter().filter(|end| state.parts[end.partition.0 as usize].high != end.end.0);
                (news.map(|end| end.partition).collect::<Vec<_>>(), known != Some(state.generation))
            };
            if !news.is_empty() || is_other || self.check().is_err() || Instant::now() >= deadline {
                return news;
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + 7 * MS)).await;
        }
    }

    async fn leave(&self) -> Result<(), Error> {
        Ok(())
    }
}
