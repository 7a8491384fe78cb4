//! What is in flight for the writer: requests that are sent, fetches that read back, and the questions before them.
//!
//! Each goes over a connection of its own, and each is awaited for as long as it takes: that another connection is lost ends
//! fetches, which are made again, but no request, of which only its own answer says for certain what became of it. One that is not
//! answered for long after is given up, and read back.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::partition::{MarkWanted, Taken};
use super::recovery::Read;
use super::shared::Shared;
use crate::engine::transport::{FetchResponse, ProducerConnection, SendError, Transport};
use crate::error::Error;
use crate::limits;
use crate::position::{Offset, PartitionId};
use crate::watermark::Watermarks;

/// What has come of a request, or of a question. What comes back over a good connection brings it along.
pub(super) enum Answer<S> {
    Sent(S, Result<Option<Offset>, SendError>),
    /// A request was not answered, or not even sent.
    GivenUp,
    Asked(S, Result<Watermarks, Error>),
    Fetched(S, Result<FetchResponse, Error>),
    /// A question of an earlier generation.
    Interrupted,
}

/// An answer, and to what.
pub(super) struct Event<S> {
    pub(super) partition: PartitionId,
    pub(super) generation: u64,
    pub(super) answer: Answer<S>,
}

/// Whether the connections of a generation are lost, and since when.
#[derive(Clone)]
pub(super) struct Generation {
    pub(super) number: u64,
    lost: watch::Receiver<Option<Instant>>,
}

impl Generation {
    /// With what says that its connections are lost.
    pub(super) fn new(number: u64) -> (watch::Sender<Option<Instant>>, Self) {
        let (sender, lost) = watch::channel(None);
        (sender, Self { number, lost })
    }

    /// Completes when its connections have been lost for so long.
    async fn lost_for(&mut self, time: Duration) {
        let since = match self.lost.wait_for(Option::is_some).await {
            Ok(since) => since.unwrap_or_else(Instant::now),
            Err(_) => return,
        };
        tokio::time::sleep_until(since + time).await;
    }
}

/// A question for the watermarks that any number of requests wait for: its answer, if there is one in time, and when it was asked.
#[derive(Clone)]
pub(super) struct Question {
    asked_at: Instant,
    answer: SharedFuture<BoxFuture<'static, Option<Arc<Watermarks>>>>,
}

impl Question {
    pub(super) fn new<T: Transport>(transport: &Arc<T>) -> Self {
        let (asked_at, transport) = (Instant::now(), Arc::clone(transport));
        let answer = async move {
            match timeout(limits::MARK_PATIENCE, transport.watermarks()).await {
                Ok(Ok(watermarks)) => Some(Arc::new(watermarks)),
                // Whatever is sent next finds out what is wrong.
                Ok(Err(_)) | Err(_) => None,
            }
        };
        Self { asked_at, answer: answer.boxed().shared() }
    }

    /// Whether its answer is still to come, and will do.
    pub(super) fn answers(&self, wanted: MarkWanted) -> bool {
        self.answer.peek().is_none() && wanted.after.is_none_or(|after| after <= self.asked_at)
    }
}

/// Sends a request, and asks before where the partition ends if that is wanted.
pub(super) async fn send<E, S: ProducerConnection>(
    shared: Arc<Shared<E>>,
    mut connection: S,
    (partition, taken): (PartitionId, Taken),
    question: Option<Question>,
    mut of: Generation,
) -> Event<S> {
    let (generation, Taken { messages, patience, .. }) = (of.number, taken);
    let event = |answer| Event { partition, generation, answer };
    if let Some(question) = question {
        tokio::select! {
            biased;
            watermarks = question.answer => if let Some(watermarks) = watermarks {
                shared.marked(&watermarks, question.asked_at);
            },
            () = of.lost_for(Duration::ZERO) => return event(Answer::GivenUp),
        }
    }
    shared.begin(partition);
    tokio::select! {
        biased;
        result = connection.send(partition, &messages) => event(Answer::Sent(connection, result)),
        () = of.lost_for(patience) => event(Answer::GivenUp),
    }
}

/// Asks what reading back needs to know next.
pub(super) async fn read<T: Transport>(
    transport: Arc<T>,
    connection: T::Producer,
    read: Read,
    mut of: Generation,
) -> Event<T::Producer> {
    let generation = of.number;
    let (partition, asking) = match read {
        Read::Ask(partition) => (partition, None),
        Read::Fetch(request) => (request.partition, Some(request)),
    };
    let answer = async {
        match asking {
            None => {
                let watermarks = transport.watermarks().await;
                Answer::Asked(connection, watermarks)
            }
            Some(request) => {
                let records = connection.fetch(request).await;
                Answer::Fetched(connection, records)
            }
        }
    };
    let answer = or(answer, of.lost_for(Duration::ZERO)).await.unwrap_or(Answer::Interrupted);
    Event { partition, generation, answer }
}

/// The output of `future`, unless `end` is over before.
async fn or<F: Future>(future: F, end: impl Future<Output = ()>) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = end => None,
    }
}
