//! The log of [`Server`] as a transport.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use event_log_core::engine::{
    FetchRequest, FetchResponse, Landmark, Message, ProducerConnection, SendError, Transport,
    TransportProperties,
};
use event_log_core::{Error, Offset, PartitionId, Timestamp, Watermarks};

use super::PARTITIONS;
use super::nature::{Ending, Fetches, Fortune, Sends};
use super::server::{Late, OnItsWay, Server, away, is_nth, pause, tell};
use crate::no_member::NoMember;

pub(crate) struct Scripted(pub(crate) Arc<Server>);

pub(crate) struct Connection {
    server: Arc<Server>,
    link: u64,
    generation: u64,
    is_lost: AtomicBool,
    late: Late,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let state = &mut *self.server.state.lock();
        state.open -= u64::from(state.generation == self.generation);
    }
}

impl Connection {
    fn is_lost(&self) -> bool {
        self.is_lost.load(Relaxed) || *self.server.link.borrow() != self.link
    }

    fn loses(&self) {
        self.is_lost.store(true, Relaxed);
        self.server.loses();
    }

    /// It is told that the connection is lost.
    fn away(&self) -> Error {
        let state = &mut *self.server.state.lock();
        state.is_lost |= state.generation == self.generation;
        away()
    }

    fn send_lost(&self, may_have_taken_effect: bool) -> SendError {
        SendError::Lost { error: self.away(), may_have_taken_effect }
    }
}

impl Transport for Scripted {
    type Producer = Connection;
    type Member = NoMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = TransportProperties::new(PARTITIONS);
        properties.connections = self.0.temper().connections;
        properties
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let (temper, number, is_first) = {
            let state = &mut *self.0.state.lock();
            let is_first = state.open == 0 || state.is_lost;
            state.calls.note(true, is_first);
            state.connects += 1;
            (state.temper, state.connects, is_first)
        };
        tell(|| format!("connect, first {is_first}"));
        if self.0.state.lock().is_down {
            return Err(away());
        }
        if is_first {
            pause(temper.connects_after).await;
            if is_nth(number, temper.connect_fails) {
                return Err(away());
            }
        } else {
            let (Ok(after) | Err(after)) = temper.another;
            pause(after).await;
            if temper.another.is_err() {
                return Err(away());
            }
        }
        let mut state = self.0.state.lock();
        if is_first {
            (state.generation, state.open, state.is_lost) = (state.generation + 1, 0, false);
        }
        state.open += 1;
        let (link, generation) = (*self.0.link.borrow(), state.generation);
        let (server, is_lost) = (Arc::clone(&self.0), AtomicBool::new(false));
        Ok(Connection { server, link, generation, is_lost, late: Late::default() })
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Err(away())
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        let (temper, number) = {
            let state = &mut *self.0.state.lock();
            state.calls.note(true, false);
            state.questions += 1;
            (state.temper, state.questions)
        };
        tell(|| "watermarks".into());
        if self.0.state.lock().is_down {
            return Err(away());
        }
        let _turn = if temper.marks_in_turn { Some(self.0.turn.lock().await) } else { None };
        let known = self.0.watermarks();
        pause(temper.marks_after).await;
        if is_nth(number, temper.marks_fail) {
            return Err(away());
        }
        Ok(if temper.marks_late { known } else { self.0.watermarks() })
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        Ok(vec![Offset::ZERO; times.len()])
    }

    async fn committed(
        &self,
        _: &str,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        Ok(partitions.iter().map(|_| Ok(None)).collect())
    }

    async fn delete_group(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

impl ProducerConnection for Connection {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        tell(|| format!("send {} x{}", partition.0, messages.len()));
        let mut on_its_way = OnItsWay::new(&self.server, &self.late, partition, messages);
        if self.is_lost() {
            on_its_way.messages = None;
            return Err(self.send_lost(false));
        }
        let (sends, is_struck) = on_its_way.character();
        let after = match sends {
            Sends::AnsweredLate(_) => 0,
            Sends::Answered(after) => after,
            Sends::Lost { after, .. } | Sends::Refused { after, .. } if is_struck => after,
            Sends::Lost { .. } | Sends::Refused { .. } => 1,
        };
        if self.server.unless_cut(self.link, pause(after)).await.is_none() {
            return Err(self.send_lost(true));
        }
        on_its_way.messages = None;
        let arrive = |count: usize| self.server.with(partition, |there| there.append(&messages[..count]));
        match sends {
            Sends::Refused { .. } if is_struck => {
                return Err(SendError::Refused(Error::invalid("event", "is not liked")));
            }
            Sends::Lost { ending, .. } if is_struck => {
                match ending {
                    Ending::NotSent | Ending::NeverArrives => {}
                    Ending::Arrives => drop(arrive(messages.len())),
                    Ending::HalfArrives => drop(arrive(messages.len() / 2)),
                    Ending::ArrivesAfter(millis) => on_its_way.arrives_after(millis, messages.to_vec()),
                }
                self.loses();
                return Err(self.send_lost(ending != Ending::NotSent));
            }
            _ => {}
        }
        let base = arrive(messages.len());
        if let Sends::AnsweredLate(after) = sends {
            if self.server.unless_cut(self.link, pause(after)).await.is_none() {
                return Err(self.send_lost(true));
            }
        }
        tell(|| format!("sent {}", partition.0));
        Ok(self.server.temper().says_where.then_some(base))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        if self.is_lost() {
            self.server.state.lock().calls.note(true, false);
            return Err(self.away());
        }
        tell(|| format!("fetch {} {}", request.partition.0, request.from.0));
        let (fetches, number) = self.server.with(request.partition, |there| {
            there.fetches += 1;
            (there.character.fetches, there.fetches)
        });
        let after = match fetches {
            Fetches::Lost { every, .. } if !is_nth(number, every) => 1,
            Fetches::Empty | Fetches::AnsweredLate(_) => 0,
            Fetches::Answered(after)
            | Fetches::Lost { after, .. }
            | Fetches::Fault(after)
            | Fetches::TimesOut(after) => after,
        };
        if self.server.unless_cut(self.link, pause(after)).await.is_none() {
            return Err(self.away());
        }
        let answer = match fetches {
            Fetches::Lost { every, .. } if is_nth(number, every) => {
                self.loses();
                Err(self.away())
            }
            Fetches::Fault(_) => {
                let error = "a fault of this partition".into();
                Err(Error::Backend { retryable: true, may_have_taken_effect: false, error })
            }
            Fetches::TimesOut(_) => {
                self.loses();
                let _told = self.away();
                Err(Error::Timeout(Duration::from_millis(after)))
            }
            Fetches::Empty => Ok(FetchResponse::default()),
            Fetches::Answered(_) | Fetches::AnsweredLate(_) | Fetches::Lost { .. } => {
                Ok(self.records(request))
            }
        };
        let is_fruitless = answer.as_ref().map_or(true, |answer| answer.records.is_empty());
        self.server.state.lock().calls.note(is_fruitless, false);
        if let Fetches::AnsweredLate(after) = fetches {
            if self.server.unless_cut(self.link, pause(after)).await.is_none() {
                return Err(self.away());
            }
        }
        answer
    }

    async fn lost(&mut self) -> Error {
        if self.is_lost() {
            return self.away();
        }
        let dies_after = self.server.temper().dies_after;
        let dies = async {
            match dies_after {
                0 => std::future::pending().await,
                after => pause(after).await,
            }
        };
        if self.server.unless_cut(self.link, dies).await.is_some() {
            self.loses();
        }
        self.away()
    }

    async fn close(mut self) {
        for late in std::mem::take(self.late.get_mut()) {
            late.await.expect("it arrives");
        }
    }
}

impl Connection {
    fn records(&self, request: FetchRequest) -> FetchResponse {
        let says_high = self.server.temper().says_high;
        self.server.with(request.partition, |there| {
            let from = request.from.0.max(there.low);
            let most = there.character.most.min(request.max_records);
            let records = there.records.iter().skip(from as usize).take(most).cloned().collect();
            let is_other = |after: Landmark| {
                let record = there.records.get(after.offset.0 as usize);
                record.is_none_or(|record| after.offset.0 >= there.low && record.id != after.id)
            };
            // A log that begins again numbers its incarnations, and tells.
            let begins_again = there.character.fortune == Fortune::BeginsAgain || !there.former.is_empty();
            FetchResponse {
                records,
                low: Some(Offset(there.low)),
                high: (says_high || begins_again).then_some(Offset(there.records.len() as u64)),
                truncated: (says_high || begins_again) && request.after.is_some_and(is_other),
                incarnation: Some(there.former.len() as u64),
                ..FetchResponse::default()
            }
        })
    }
}
