//! The writer's connections: one, and more when there is something for them to do.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures::future::select_all;
use tokio::time::Instant;

use crate::contain::report;
use crate::engine::task::{Task, poll_task};
use crate::engine::transport::{ProducerConnection, Transport};
use crate::error::Error;
use crate::limits;

/// Connections that are good. They are lost together: the writer reads back what became of its requests over a new one.
pub(super) struct Connections<T: Transport> {
    transport: Arc<T>,
    /// Those that nothing is sent over. They are used in turn, so that none is idle for long while others are not.
    idle: VecDeque<T::Producer>,
    /// How many there are, those in use among them, and how many are worth having.
    open: usize,
    most: usize,
    /// The next one, on its way. Nobody waits for it: what there is to send goes over those that there are. One comes
    /// after the other, because signing in is work for the log, while it has other work to do.
    opening: Option<Task<Result<T::Producer, Error>>>,
    /// One could not be opened: those that there are have to do until then.
    refused_until: Option<Instant>,
}

impl<T: Transport> Connections<T> {
    pub(super) fn new(transport: Arc<T>, first: T::Producer) -> Self {
        let most = transport.properties().connections;
        Self { transport, idle: [first].into(), open: 1, most, opening: None, refused_until: None }
    }

    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    pub(super) fn take(&mut self) -> Option<T::Producer> {
        self.idle.pop_front()
    }

    pub(super) fn give_back(&mut self, connection: T::Producer) {
        self.idle.push_back(connection);
    }

    /// All are in use, and there may be more, now or when the last refusal is long enough ago.
    pub(super) fn is_waiting_to_widen(&self) -> bool {
        self.open < self.most && self.idle.is_empty() && self.opening.is_none()
    }

    /// When one more may be opened, if that is to be waited for.
    pub(super) fn may_widen_at(&self) -> Option<Instant> {
        self.refused_until.filter(|&until| self.is_waiting_to_widen() && Instant::now() < until)
    }

    /// One more may be opened now.
    pub(super) fn may_widen(&self) -> bool {
        self.is_waiting_to_widen() && self.may_widen_at().is_none()
    }

    /// Opens one more. A producer that appends now and then never has a second one.
    pub(super) fn widen(&mut self) {
        let transport = Arc::clone(&self.transport);
        self.opening = Some(Task::inline(async move { transport.connect().await }));
    }

    /// Completes when there is one more, or when one is known to be lost, with the reason. That is looked for while all are
    /// idle: those in use find out by themselves. Cancel safe.
    pub(super) async fn changed(&mut self) -> Result<(), Error> {
        let watched = if self.idle.len() == self.open { self.open } else { 0 };
        let watched: Vec<_> =
            self.idle.iter_mut().take(watched).map(|connection| Box::pin(connection.lost())).collect();
        let lost = async {
            if watched.is_empty() { std::future::pending().await } else { select_all(watched).await.0 }
        };
        let opened = poll_fn(|cx| poll_task(&mut self.opening, cx).map_or(Poll::Pending, Poll::Ready));
        tokio::select! {
            opened = opened => {
                match opened {
                    Ok(Ok(connection)) => {
                        self.open += 1;
                        self.idle.push_back(connection);
                    }
                    // The others do it all as well, only slower.
                    Ok(Err(error)) => {
                        let error = &error as &dyn std::error::Error;
                        report(|| tracing::debug!(error, "no further connection to the log can be opened"));
                        self.refused_until = Some(Instant::now() + limits::WIDEN_RETRY);
                    }
                    // It has panicked.
                    Err(_) => self.refused_until = Some(Instant::now() + limits::WIDEN_RETRY),
                }
                Ok(())
            }
            error = lost => Err(error),
        }
    }
}
