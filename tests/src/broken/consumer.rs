//! The consumer's side of a broken log.

use std::time::Duration;

use async_trait::async_trait;
use event_log_core::conformance::Probe;
use event_log_core::{
    CommitError, ConsumerOptions, Cursor, Error, EventBatch, EventConsumer, Notice, Offset, PoisonPolicy,
    SeekPosition,
};

use super::Break;
use super::log::unsalted;

pub(super) struct BrokenConsumer {
    inner: Box<dyn EventConsumer<Probe>>,
    fault: Break,
}

impl BrokenConsumer {
    pub(super) fn new(inner: Box<dyn EventConsumer<Probe>>, fault: Break) -> Self {
        Self { inner, fault }
    }

    /// What some breaks do to the options.
    pub(super) fn twist(fault: Break, options: &mut ConsumerOptions) {
        match fault {
            Break::IgnoresTheStart => options.start = SeekPosition::Beginning,
            Break::StopsAtPoison => options.poison = PoisonPolicy::Halt,
            _ => {}
        }
    }

    async fn commit_position(&mut self) -> Result<(), CommitError> {
        let position = self.inner.position().clone();
        self.inner.commit(&position).await
    }

    fn after(&self, batch: EventBatch<Probe>) -> EventBatch<Probe> {
        let cursor = batch.cursor().clone();
        let EventBatch { mut records, mut notices, .. } = batch;
        match self.fault {
            Break::ReversesRecords => records.reverse(),
            Break::SwallowsPoison => records.retain(|record| record.event.is_ok()),
            Break::HidesRetention => {
                notices.retain(|notice| !matches!(notice, Notice::Missing { .. } | Notice::Truncated { .. }));
            }
            Break::HidesFaults => notices.retain(|notice| !matches!(notice, Notice::Fault { .. })),
            Break::PartitionsByItsOwnHash => {
                for record in &mut records {
                    record.event = std::mem::replace(&mut record.event, Ok(Probe::keyless(0))).map(unsalted);
                }
            }
            _ => {}
        }
        EventBatch::new(records, notices, cursor)
    }
}

#[async_trait]
impl EventConsumer<Probe> for BrokenConsumer {
    async fn poll(&mut self, max_count: usize, timeout: Duration) -> Result<EventBatch<Probe>, Error> {
        let max_count =
            if self.fault == Break::ReturnsTooMany && max_count > 0 { max_count + 1 } else { max_count };
        let timeout = if self.fault == Break::IgnoresTheTimeout { Duration::ZERO } else { timeout };
        let mut polled = self.inner.poll(max_count, timeout).await;
        while self.fault == Break::WaitsForAnAnswer && matches!(polled, Err(Error::Timeout(_))) {
            polled = self.inner.poll(max_count, timeout).await;
        }
        let batch = match polled {
            Err(Error::Unavailable(_)) if self.fault == Break::CallsBlindnessEmpty => {
                EventBatch::new(Vec::new(), Vec::new(), self.inner.position().clone())
            }
            batch => batch?,
        };
        match self.fault {
            Break::LosesCancelledPolls => tokio::task::yield_now().await,
            Break::CommitsByItself => drop(self.commit_position().await),
            _ => {}
        }
        Ok(self.after(batch))
    }

    async fn commit(&mut self, up_to: &Cursor) -> Result<(), CommitError> {
        match self.fault {
            Break::CommitsNothing => Ok(()),
            Break::CommitsItsPosition => self.commit_position().await,
            Break::CommitsOneLess => {
                let less =
                    up_to.iter().map(|(partition, next)| (partition, Offset(next.0.saturating_sub(1))));
                self.inner.commit(&less.collect()).await
            }
            _ => self.inner.commit(up_to).await,
        }
    }

    async fn seek(&mut self, to: SeekPosition) -> Result<(), Error> {
        let to = match (self.fault, to) {
            (Break::SeeksBeforeTheEnd, SeekPosition::End) => SeekPosition::FromEnd(1),
            (Break::CountsOneTooMany, SeekPosition::FromEnd(count)) => {
                SeekPosition::FromEnd(count.saturating_add(1))
            }
            (_, to) => to,
        };
        self.inner.seek(to).await
    }

    async fn end(&mut self) -> Result<Cursor, Error> {
        let end = self.inner.end().await?;
        let late = u64::from(self.fault == Break::EndsTooEarly);
        Ok(end.iter().map(|(partition, end)| (partition, Offset(end.0.saturating_sub(late)))).collect())
    }

    fn position(&self) -> &Cursor {
        self.inner.position()
    }

    fn committed(&self) -> &Cursor {
        self.inner.committed()
    }

    fn group(&self) -> &str {
        self.inner.group()
    }

    async fn leave(mut self: Box<Self>) -> Result<(), Error> {
        if self.fault == Break::CommitsOnLeaving {
            let _ = self.commit_position().await;
        }
        self.inner.leave().await
    }
}
