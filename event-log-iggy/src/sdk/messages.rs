//! Sending and reading messages of one partition.

use bytes::BytesMut;
use event_log_core::engine::{Message, StoredMessage, foreign_id};
use event_log_core::{EventId, Offset, PartitionId, Position, Timestamp};
use iggy::prelude::{
    Consumer, Identifier, IggyError, IggyMessage, IggyTimestamp, MessageClient as _, PollingStrategy,
};
use iggy_binary_protocol::codes::SEND_MESSAGES_CODE;
use iggy_binary_protocol::requests::messages::{RawMessage, SendMessagesEncoder};
use iggy_binary_protocol::responses::messages::SendMessagesResponse;
use iggy_binary_protocol::{WireDecode as _, WireError, WirePartitioning};

use super::client::Client;
use super::failure::CallError;
use super::headers;

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    /// The earliest message that is retained.
    First,
    /// This offset, or the earliest behind it.
    Offset(Offset),
    /// The first message that was appended at this time or later.
    Timestamp(Timestamp),
}

/// The answer to a poll.
#[derive(Debug)]
pub(crate) struct Polled {
    /// In offset order. Empty at the end of the partition, and also when the server could not read it.
    pub(crate) records: Vec<StoredMessage>,
    /// The offset of the last message of the partition; also 0 when there is none, and when the server could not
    /// say.
    pub(crate) last: Offset,
}

impl Client {
    /// Appends messages to one partition with one request. Returns the offset of the first, when the server said so.
    pub(crate) async fn send(
        &self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, CallError> {
        // Not through the SDK's own messages: they would have to be built, one by one, only to be copied from.
        let now = IggyTimestamp::now().as_micros();
        let encoded: Vec<_> = messages.iter().map(|message| headers::encode(&message.headers)).collect();
        let raw: Vec<_> = messages
            .iter()
            .zip(&encoded)
            .map(|(message, headers)| RawMessage {
                id: message.id.as_u128(),
                origin_timestamp: now,
                headers: headers.as_deref(),
                payload: &message.payload,
            })
            .collect();
        let (stream, topic) = (&self.topic.wire_stream, &self.topic.wire_topic);
        let partitioning = WirePartitioning::PartitionId(partition.0);
        let mut body =
            BytesMut::with_capacity(SendMessagesEncoder::encoded_size(stream, topic, &partitioning, &raw));
        SendMessagesEncoder::encode(&mut body, stream, topic, &partitioning, &raw).map_err(too_large)?;
        drop(raw);
        let reply = self.call(SEND_MESSAGES_CODE, body.freeze()).await?;
        // It is committed: a reply that cannot be read only fails to say where.
        let confirmed = SendMessagesResponse::decode(&reply).ok();
        let confirmed = confirmed.and_then(|(reply, _)| reply.confirmations.into_iter().next());
        Ok(confirmed.filter(|one| one.partition_id == partition.0).map(|one| Offset(one.base_offset)))
    }

    /// Reads at most `count` messages of one partition.
    pub(crate) async fn poll(
        &self,
        partition: PartitionId,
        from: ReadFrom,
        count: u32,
    ) -> Result<Polled, CallError> {
        let strategy = match from {
            ReadFrom::First => PollingStrategy::first(),
            ReadFrom::Offset(offset) => PollingStrategy::offset(offset.0),
            ReadFrom::Timestamp(timestamp) => PollingStrategy::timestamp(timestamp.0.into()),
        };
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        // As a reader without a place of its own, and not as the group: a group's poll makes the server hold a
        // partition back from other members for up to half a minute (see DESIGN.md).
        let reader = Consumer::new(Identifier::numeric(1)?);
        let poll = self.tcp.poll_messages(stream, topic, Some(partition.0), &reader, &strategy, count, false);
        let polled = self.bounded(poll).await?;
        let records =
            polled.messages.into_iter().map(|message| stored(&self.topic.name, partition, message)).collect();
        Ok(Polled { records, last: Offset(polled.current_offset) })
    }

    /// The first offset whose record was appended at this time or later, `None` where there is none.
    pub(crate) async fn offset_at(
        &self,
        partition: PartitionId,
        time: Timestamp,
    ) -> Result<Option<Offset>, CallError> {
        let polled = self.poll(partition, ReadFrom::Timestamp(time), 1).await?;
        Ok(polled.records.first().map(|first| first.offset))
    }
}

fn stored(log: &str, partition: PartitionId, message: IggyMessage) -> StoredMessage {
    let offset = Offset(message.header.offset);
    let id = match message.header.id {
        // A producer that gives none. The window of ids must not take all such messages for copies of one.
        0 => foreign_id(log, Position::new(partition, offset), Timestamp(message.header.timestamp)),
        id => EventId::from_u128(id),
    };
    StoredMessage {
        offset,
        id,
        timestamp: Timestamp(message.header.timestamp),
        headers: headers::decode(message.user_headers),
        payload: message.payload,
    }
}

/// What the encoder refuses never leaves this process.
fn too_large(_: WireError) -> CallError {
    IggyError::TooBigMessagePayload.into()
}
