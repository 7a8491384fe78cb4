//! Reading ahead: what comes next in a partition is asked for while what came before is still being worked on.

use std::sync::Arc;

use event_log_core::engine::FetchResponse;
use event_log_core::{EventId, Offset, PartitionId};
use tokio::task::JoinHandle;

use crate::read;
use crate::sdk::{CallError, Client};

/// A request for what is behind a record that was read, made before anybody wants it. It is good for whoever reads on
/// from there, and for nobody who has asked anything else about the partition since: the answer may be older than that.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    from: Offset,
    /// Where the partition was known to end when it was made.
    before: Offset,
    answer: JoinHandle<Result<FetchResponse, CallError>>,
}

impl ReadAhead {
    pub(crate) fn start(
        client: &Arc<Client>,
        partition: PartitionId,
        tail: (Offset, EventId),
        count: u32,
        before: Offset,
    ) -> Self {
        let client = Arc::clone(client);
        let answer = tokio::spawn(async move { read::read_on(&client, partition, tail, count).await });
        Self { from: tail.0.next(), before, answer }
    }

    pub(crate) fn begins_at(&self, from: Offset) -> bool {
        self.from == from
    }

    pub(crate) const fn before(&self) -> Offset {
        self.before
    }

    /// The answer; `None` when the request was given up by a runtime that shuts down. Cancel safe.
    pub(crate) async fn answer(&mut self) -> Option<Result<FetchResponse, CallError>> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.answer.abort();
    }
}
