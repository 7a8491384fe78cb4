//! A log that is away.

use event_log_core::engine::{
    FetchRequest, FetchResponse, Message, ProducerConnection, SendError, Transport, TransportProperties,
};
use event_log_core::{Error, Offset, PartitionId, Timestamp, Watermarks};

use crate::no_member::NoMember;

/// A log to which nothing can be appended: every request is lost before it arrives.
pub(crate) struct Away;

pub(crate) struct NoProducer;

impl ProducerConnection for NoProducer {
    async fn send(&mut self, _: PartitionId, _: &[Message]) -> Result<Option<Offset>, SendError> {
        Err(SendError::Lost { error: Error::Unavailable(None), may_have_taken_effect: false })
    }

    async fn fetch(&self, _: FetchRequest) -> Result<FetchResponse, Error> {
        Err(Error::Unavailable(None))
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }

    async fn close(self) {}
}

impl Transport for Away {
    type Producer = NoProducer;
    type Member = NoMember;

    fn properties(&self) -> TransportProperties {
        TransportProperties::new(1)
    }

    async fn connect(&self) -> Result<NoProducer, Error> {
        Ok(NoProducer)
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Err(Error::Unavailable(None))
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        Err(Error::Unavailable(None))
    }

    async fn offsets_at(&self, _: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        Err(Error::Unavailable(None))
    }

    async fn committed(
        &self,
        _: &str,
        _: &[PartitionId],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        Err(Error::Unavailable(None))
    }

    async fn delete_group(&self, _: &str) -> Result<(), Error> {
        Err(Error::Unavailable(None))
    }
}
