//! What each of Iggy's errors says about the call that it answers.
//!
//! By variant and never by text, which is for people and changes. The variant `Disconnected`, say, is raised for a
//! connection that was lost before the request went out as well as after the server had carried it out, so that it has
//! the worse class of the two. The match names every variant: an SDK with another one does not compile before a class is
//! chosen for it.

use iggy::prelude::IggyError as E;

/// What a code says about the call that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// The connection is of no use any more, and nothing was sent over it.
    NotSent,
    /// The connection is of no use any more, and the server may have carried out the request.
    Ambiguous,
    /// The server is in trouble: it answers, and what it has done of the request before it failed it does not say.
    Failed,
    /// The server did not take the request now, and may take it later.
    Transient,
    /// It is done already; only the reply is gone.
    Done,
    /// The session is not signed in (any more). Signing in again may help.
    SignedOut,
    /// The credentials are refused, or do not permit this.
    Forbidden,
    /// The stream, the topic, the partition or the group is not there (any more).
    NotFound,
    /// The partition belongs to another member of the group, or we are no member.
    NotAssigned,
    /// The server did not do it and will not, as often as it is asked.
    Refused,
}

impl ErrorClass {
    /// The class of an error of the SDK. A code that the SDK does not have arrives as its generic error.
    #[rustfmt::skip]
    pub(super) const fn of(error: &E) -> Self {
        match error {
            E::CannotEstablishConnection | E::NotConnected | E::ClientShutdown => ErrorClass::NotSent,
            // The connection ended, or the request is in flight on the server.
            E::Disconnected | E::StaleClient | E::TcpError | E::QuicError | E::TransientNotCommitted
            | E::ConnectionClosed | E::EmptyResponse | E::WebSocketError | E::WebSocketConnectionError
            | E::WebSocketCloseError | E::WebSocketReceiveError | E::WebSocketSendError => ErrorClass::Ambiguous,
            // The SDK reports it also for a reply that it cannot read.
            E::InvalidCommand => ErrorClass::Ambiguous,
            // The generic error, which also stands for a code that the SDK does not have, and replies that could not be read.
            E::Error | E::HttpError(..) | E::InvalidSizeBytes | E::InvalidUtf8 | E::InvalidNumberEncoding
            | E::InvalidBooleanValue | E::InvalidNumberValue | E::HttpResponseError(..) | E::InvalidHttpRequest
            | E::InvalidJsonResponse | E::InvalidBytesResponse | E::CannotSerializeResource
            | E::CannotDeserializeResource => ErrorClass::Ambiguous,
            // The background producer of the SDK, which is not used here.
            E::CannotSendMessagesDueToClientDisconnection | E::BackgroundSendError | E::BackgroundSendTimeout
            | E::BackgroundSendBufferFull | E::BackgroundWorkerDisconnected | E::BackgroundSendBufferOverflow
            | E::ProducerSendFailed { .. } | E::ProducerClosed => ErrorClass::Ambiguous,
            // The server's storage failed, before the write or after it.
            E::CannotCreateBaseDirectory(..) | E::CannotCreateRuntimeDirectory(..)
            | E::CannotRemoveRuntimeDirectory(..) | E::CannotCreateStateDirectory(..) | E::StateFileNotFound
            | E::StateFileCorrupted | E::InvalidStateEntryChecksum(..) | E::CannotOpenDatabase(..)
            | E::CannotCreateStreamsDirectory(..) | E::CannotCreateStreamDirectory(..) | E::CannotCreateStreamInfo(..)
            | E::CannotUpdateStreamInfo(..) | E::CannotOpenStreamInfo(..) | E::CannotReadStreamInfo(..)
            | E::CannotCreateStream(..) | E::CannotDeleteStream(..) | E::CannotDeleteStreamDirectory(..)
            | E::StreamDirectoryNotFound(..) | E::CannotReadStreams | E::CannotCreateTopicsDirectory(..)
            | E::CannotCreateTopicDirectory(..) | E::CannotCreateTopicInfo(..) | E::CannotUpdateTopicInfo(..)
            | E::CannotOpenTopicInfo(..) | E::CannotReadTopicInfo(..) | E::CannotCreateTopic(..)
            | E::CannotDeleteTopic(..) | E::CannotDeleteTopicDirectory(..) | E::CannotPollTopic
            | E::CannotReadTopics(..) | E::TopicDirectoryNotFound(..) | E::CannotCreatePartition(..)
            | E::CannotCreatePartitionsDirectory(..) | E::CannotCreatePartitionDirectory(..)
            | E::CannotOpenPartitionLogFile | E::CannotReadPartitions | E::CannotDeletePartition(..)
            | E::CannotDeletePartitionDirectory(..) | E::CannotDeleteConsumerOffsetsDirectory(..)
            | E::CannotDeleteConsumerOffsetFile(..) | E::CannotCreateConsumerOffsetsDirectory(..)
            | E::CannotReadConsumerOffsets(..) | E::CannotOpenConsumerOffsetsFile(..) | E::SegmentNotFound
            | E::SegmentClosed(..) | E::CannotCreateSegmentLogFile(..) | E::CannotCreateSegmentIndexFile(..)
            | E::CannotCreateSegmentTimeIndexFile(..) | E::CannotSaveMessagesToSegment | E::CannotSaveIndexToSegment
            | E::CannotSaveTimeIndexToSegment | E::CannotAppendMessage | E::CannotReadMessage | E::CannotReadMessageId
            | E::CannotReadMessageState | E::CannotReadMessageTimestamp | E::CannotReadHeadersLength
            | E::CannotReadHeadersPayload | E::CannotReadMessageLength | E::CannotReadMessagePayload
            | E::CannotReadMessageChecksum | E::InvalidMessageChecksum(..) | E::InvalidSegmentsCount(..)
            | E::NonZeroOffset(..) | E::NonZeroTimestamp(..) | E::MissingIndex(..) | E::InvalidIndexesByteSize(..)
            | E::InvalidIndexesCount(..) | E::InvalidMessagesSize(..) | E::InvalidBatchChecksum(..)
            | E::SegmentSizeMismatchAtOpen(..) | E::CannotCreateConsumerGroupInfo(..)
            | E::CannotDeleteConsumerGroupInfo(..) | E::MissingBaseOffsetRetainedMessageBatch
            | E::MissingLastOffsetDeltaRetainedMessageBatch | E::MissingMaxTimestampRetainedMessageBatch
            | E::MissingLengthRetainedMessageBatch | E::MissingPayloadRetainedMessageBatch
            | E::CannotReadBatchBaseOffset | E::CannotReadBatchLength | E::CannotReadLastOffsetDelta
            | E::CannotReadMaxTimestamp | E::CannotReadBatchPayload | E::SnapshotFileCompletionFailed
            | E::CannotReadFile | E::CannotReadFileMetadata | E::CannotSeekFile | E::CannotAppendToFile
            | E::CannotWriteToFile | E::CannotOverwriteFile | E::CannotDeleteFile | E::CannotSyncFile
            | E::CannotReadIndexOffset | E::CannotReadIndexPosition | E::CannotReadIndexTimestamp
            | E::ShardNotFound(..) | E::ShardCommunicationError | E::CannotBindToSocket(..) | E::TaskTimeout
            | E::IoError(..) => ErrorClass::Failed,
            // A full topic may be emptied by retention.
            E::TransientNotAccepted | E::TopicFull(..) => ErrorClass::Transient,
            E::RequestAlreadyApplied => ErrorClass::Done,
            // The session is bound already, or is not valid.
            E::Unauthenticated | E::AlreadyAuthenticated | E::InvalidSession(..) => ErrorClass::SignedOut,
            E::Unauthorized | E::InvalidCredentials | E::InvalidUsername | E::InvalidPassword | E::InvalidUserStatus
            | E::UserInactive | E::InvalidPersonalAccessToken | E::PersonalAccessTokenExpired(..)
            | E::InvalidJwtAlgorithm(..) | E::InvalidJwtSecret | E::JwtMissing | E::CannotGenerateJwt
            | E::AccessTokenMissing | E::InvalidAccessToken | E::CannotFetchJwks(..) => ErrorClass::Forbidden,
            E::StreamIdNotFound(..) | E::StreamNameNotFound(..) | E::TopicIdNotFound(..) | E::TopicNameNotFound(..)
            | E::PartitionNotFound(..) | E::NoPartitions(..) | E::ConsumerGroupIdNotFound(..)
            | E::ConsumerGroupNameNotFound(..) => ErrorClass::NotFound,
            // `ResourceNotFound` answers a store for a partition that has moved.
            E::ResourceNotFound(..) | E::ConsumerGroupMemberNotFound(..) | E::ConsumerGroupPartitionNotOwned(..) => ErrorClass::NotAssigned,
            E::InvalidConfiguration | E::InvalidFormat | E::FeatureUnavailable | E::InvalidIdentifier
            | E::InvalidVersion(..) | E::CannotCloseWebSocketConnection(..) | E::InvalidServerAddress
            | E::InvalidClientAddress | E::InvalidIpAddress(..) | E::InvalidApiUrl(..) | E::UserAlreadyExists
            | E::CannotDeleteUser(..) | E::CannotChangePermissions(..) | E::InvalidPersonalAccessTokenName
            | E::PersonalAccessTokenAlreadyExists(..) | E::PersonalAccessTokensLimitReached(..) | E::UsersLimitReached
            | E::InvalidPersonalAccessTokenExpiry | E::InvalidTlsDomain | E::InvalidTlsCertificatePath
            | E::InvalidTlsCertificate | E::FailedToAddCertificate | E::InvalidEncryptionKey | E::CannotEncryptData
            | E::CannotDecryptData | E::ClientNotFound(..) | E::InvalidClientId | E::CannotParseHeaderKind(..)
            | E::CannotCreateEndpoint | E::CannotParseUrl | E::StreamNameAlreadyExists(..) | E::InvalidStreamName
            | E::InvalidStreamId | E::InvalidTopicSize(..) | E::TooManyStreams | E::TopicNameAlreadyExists(..)
            | E::InvalidTopicName | E::TooManyPartitions | E::InvalidTopicId | E::InvalidReplicationFactor
            | E::InvalidPartitionsCount | E::TooManyTopics | E::PartitionIdSpaceExhausted
            | E::ConsumerOffsetNotFound(..) | E::NotResolvedConsumer(..) | E::TooManyConsumerOffsets
            | E::InvalidSegmentSize(..) | E::InvalidMessagesCount | E::TooBigUserHeaders | E::InvalidHeaderKey
            | E::InvalidHeaderValue | E::TooBigMessagePayload | E::TooManyMessages | E::EmptyMessagePayload
            | E::InvalidMessagePayloadLength | E::InvalidKeyValueLength | E::CommandLengthError(..)
            | E::TooSmallMessage(..) | E::InvalidMessageTimestampDelta(..) | E::InvalidHeaderKind(..)
            | E::UnsupportedOptionKey(..) | E::InvalidOptionValue(..) | E::OptionsBlockTooLarge(..)
            | E::InvalidOffset(..) | E::InvalidReservedField(..) | E::InvalidConsumerGroupId
            | E::ConsumerGroupNameAlreadyExists(..) | E::InvalidConsumerGroupName | E::InvalidConnectionString
            | E::TimestampOutOfRange(..) | E::IncompatibleProtocolVersion(..) => ErrorClass::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_codes_have_their_class() {
        for (code, expected) in [
            (8, ErrorClass::Ambiguous),
            (57, ErrorClass::Ambiguous),
            (58, ErrorClass::Transient),
            (59, ErrorClass::Done),
            (42, ErrorClass::Forbidden),
            (4010, ErrorClass::Failed),
            (4022, ErrorClass::Refused),
            (4100, ErrorClass::Refused),
            (5009, ErrorClass::NotAssigned),
            // One that the SDK does not have.
            (99_999, ErrorClass::Ambiguous),
        ] {
            assert_eq!(ErrorClass::of(&E::from_code(code)), expected, "{code}");
        }
    }
}
