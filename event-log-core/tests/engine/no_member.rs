//! The consuming side of a log that a test only appends to.

use event_log_core::engine::{Assignments, CommitMode, FetchRequest, FetchResponse, GroupMember, KnownEnd};
use event_log_core::{CommitErrorKind, Error, Offset, PartitionId};
use tokio::time::Instant;

/// A member without partitions.
pub(crate) struct NoMember;

impl GroupMember for NoMember {
    async fn assignments(&self, _: Option<u64>) -> Result<Option<Assignments>, Error> {
        Ok(None)
    }

    async fn fetch(&self, _: FetchRequest) -> Result<FetchResponse, Error> {
        Ok(FetchResponse::default())
    }

    async fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        _: CommitMode,
    ) -> Vec<Result<(), CommitErrorKind>> {
        places.iter().map(|_| Ok(())).collect()
    }

    async fn wait(&self, _: &[KnownEnd], _: Option<u64>, deadline: Instant) -> Vec<PartitionId> {
        tokio::time::sleep_until(deadline).await;
        Vec::new()
    }

    async fn leave(&self) -> Result<(), Error> {
        Ok(())
    }
}
