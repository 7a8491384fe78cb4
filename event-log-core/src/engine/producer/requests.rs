//! What is in flight for the writer: requests that are sent, fetches that read back, and the questions before them.
//!
//! Each request and each fetch has a connection for itself, and each is awaited for as long as it takes: that another connection is lost ends
//! none of them. Of a request only its own answer says for certain what became of it, and a fetch that is interrupted each time
//! would never come to an end. What is not answered for long after is given up: a request is read back, and a fetch made again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::moment::Moment;
use super::partition::{MarkWanted, Taken};
use super::recovery::Read;
use super::shared::Shared;
use crate::engine::transport::{FetchResponse, ProducerConnection, SendError, Transport};
use crate::error::Error;
use crate::position::{Offset, PartitionId};
use crate::watermark::Watermarks;

/// What has come of what is in flight. What comes back over a good connection brings it along.
pub(super) enum Event<S> {
    /// A request was answered.
    Sent { partition: PartitionId, generation: u64, connection: S, result: Result<Option<Offset>, SendError> },
    /// A request was not answered, or not even sent.
    GivenUp { partition: PartitionId, generation: u64, connection: S },
    /// The connection is closed over which a request had no answer.
    Closed { partition: PartitionId },
    /// A fetch of reading back was answered, or was not for long after its connection was lost.
    Read {
        partition: PartitionId,
        number: u64,
        generation: u64,
        answer: Option<(Option<S>, Result<FetchResponse, Error>)>,
    },
    /// It was answered where the partitions end.
    Ends { number: u64, answer: Result<Watermarks, Error> },
    /// A question for the watermarks is over, and its answer taken.
    Asked,
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

/// A question for the watermarks that any number of requests wait for. Its answer is taken by the queue.
///
/// The writer polls it until it is over, whether or not a request still waits for it: a future of the transport that is left
/// alone half way may hold what the next one needs.
#[derive(Clone)]
pub(super) struct Question {
    asked_at: Moment,
    over: SharedFuture<BoxFuture<'static, ()>>,
}

impl Question {
    /// It is given up after so long.
    pub(super) fn new<E: Send + 'static, T: Transport>(
        shared: &Arc<Shared<E>>,
        transport: &Arc<T>,
        patience: Duration,
    ) -> Self {
        let (shared, transport, asked_at) = (Arc::clone(shared), Arc::clone(transport), shared.moment());
        let over = async move {
            match timeout(patience, transport.watermarks()).await {
                Ok(Ok(watermarks)) => shared.marked(&watermarks, asked_at),
                // Whatever is sent next finds out what is wrong.
                Ok(Err(_)) | Err(_) => shared.unmarked(),
            }
        };
        Self { asked_at, over: over.boxed().shared() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.peek().is_some()
    }

    /// Whether its answer is still to come, and will do.
    pub(super) fn answers(&self, wanted: MarkWanted) -> bool {
        !self.is_over() && wanted.after.is_none_or(|after| after < self.asked_at)
    }

    pub(super) async fn over<S>(self) -> Event<S> {
        self.over.await;
        Event::Asked
    }
}

/// Of which generation what goes over a connection of its own is: none. No loss of others concerns it, nor does its loss concern them.
const ISOLATED: u64 = 0;

/// Whether that is what went over a connection of its own.
pub(super) const fn is_isolated(generation: u64) -> bool {
    generation == ISOLATED
}

/// Sends a request, and waits before for the question where the partition ends, if there is one; but for no longer than until
/// `expires_at`, when the oldest of its events does.
pub(super) async fn send<E, S: ProducerConnection>(
    shared: Arc<Shared<E>>,
    mut connection: S,
    (partition, taken): (PartitionId, Taken),
    question: Option<Question>,
    mut of: Generation,
) -> Event<S> {
    let (generation, Taken { messages, patience, .. }) = (of.number, &taken);
    if let Some(question) = question {
        let end = async {
            tokio::select! {
                () = of.lost_for(Duration::ZERO) => {}
                () = shared.expired(taken.oldest) => {}
            }
        };
        if or(question.over, end).await.is_none() {
            return Event::GivenUp { partition, generation, connection };
        }
    }
    shared.begin(partition);
    // What is given up is dropped before its connection is closed.
    let sent = or(connection.send(partition, messages), of.lost_for(*patience)).await;
    match sent {
        Some(result) => Event::Sent { partition, generation, connection, result },
        None => Event::GivenUp { partition, generation, connection },
    }
}

/// Closes a connection over which a request had no answer.
pub(super) async fn close<S: ProducerConnection>(partition: PartitionId, connection: S) -> Event<S> {
    connection.close().await;
    Event::Closed { partition }
}

/// Asks where the partitions end that are read back.
pub(super) async fn ends<T: Transport>(transport: Arc<T>, number: u64) -> Event<T::Producer> {
    Event::Ends { number, answer: transport.watermarks().await }
}

/// Fetches what reading back needs next.
pub(super) async fn read<S: ProducerConnection>(
    connection: S,
    Read { number, patience, request, .. }: Read,
    mut of: Generation,
) -> Event<S> {
    let (generation, partition) = (of.number, request.partition);
    let answer = async {
        let answer = connection.fetch(request).await;
        (Some(connection), answer)
    };
    Event::Read { partition, number, generation, answer: or(answer, of.lost_for(patience)).await }
}

/// The same over a connection of its own: the one that is kept, or a new one.
pub(super) async fn read_isolated<T: Transport>(
    (transport, kept): (Arc<T>, Option<T::Producer>),
    Read { number, request, .. }: Read,
) -> Event<T::Producer> {
    let connected = match kept {
        Some(connection) => Ok(connection),
        None => transport.connect().await,
    };
    let answer = match connected {
        Ok(connection) => {
            let answer = connection.fetch(request).await;
            (Some(connection), answer)
        }
        Err(error) => (None, Err(error)),
    };
    Event::Read { partition: request.partition, number, generation: ISOLATED, answer: Some(answer) }
}

/// The output of `future`, unless `end` is over before.
async fn or<F: Future>(future: F, end: impl Future<Output = ()>) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = end => None,
    }
}
