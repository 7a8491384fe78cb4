//! As much of the Iggy protocol as faults need: where a frame ends, what a request asks for, and how to answer it
//! in the server's place.
//!
//! Fields are read where they lie: the frames are not aligned as the structs of the protocol crate have to be.

use std::mem::offset_of;

use bytes::Bytes;
use event_log_core::PartitionId;
use iggy_binary_protocol::requests::consumer_offsets::StoreConsumerOffsetRequest;
use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_binary_protocol::responses::messages::poll_messages::PollMessagesResponseHeader;
use iggy_binary_protocol::{
    COMMAND_TABLE, Command, HEADER_SIZE, Operation, ReplyHeader, RequestHeader, SIZE_FIELD_OFFSET,
    WireDecode, WireEncode, codes, read_size_field,
};

/// The status of a poll that the proxy fails: `CannotReadMessage`.
pub const CANNOT_READ_MESSAGE: u32 = 4011;
/// The status of an offset store that the proxy fails: `CannotOpenConsumerOffsetsFile`.
pub const CANNOT_OPEN_OFFSETS: u32 = 3023;

/// The length of the frame that begins here, or `None` while too little of it is there to say.
pub(super) fn frame_length(begun: &[u8]) -> Option<usize> {
    read_size_field(begun).map(|size| usize::try_from(size).unwrap_or(usize::MAX))
}

fn bytes_at<const N: usize>(frame: &[u8], offset: usize) -> [u8; N] {
    frame.get(offset..offset + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

fn put(frame: &mut [u8], offset: usize, bytes: &[u8]) {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// A header with a command, of a frame with so long a body.
fn header(command: Command, body: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER_SIZE];
    let size = u32::try_from(HEADER_SIZE + body).expect("a frame is far shorter than 4 GiB");
    put(&mut frame, SIZE_FIELD_OFFSET, &size.to_le_bytes());
    put(&mut frame, offset_of!(RequestHeader, command), &[command as u8]);
    frame
}

/// What the reply to a request repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The client's number of the request; what is not replicated does not count up.
    pub request: u64,
    /// The discriminant of the operation.
    pub operation: u8,
}

impl RequestKey {
    /// Whether the server does something about the request that outlives the connection, so that it matters
    /// whether it arrived. Reads and sign-ins do not.
    pub(super) const fn leaves_traces(self) -> bool {
        self.operation >= Operation::INTERNAL_START
    }
}

/// A whole request.
#[derive(Clone, Debug)]
pub struct Request {
    frame: Bytes,
}

impl Request {
    /// A request with this code, as the SDK would send it; for tests that have no client.
    #[must_use]
    pub fn new(code: u32, number: u64, body: &[u8]) -> Self {
        let operation = match code {
            codes::LOGIN_REGISTER_CODE | codes::LOGIN_REGISTER_WITH_PAT_CODE => Operation::Register,
            codes::LOGOUT_USER_CODE => Operation::Logout,
            _ => Operation::from_command_code(code).unwrap_or(Operation::NonReplicated),
        };
        let mut frame = header(Command::Request, body.len());
        put(&mut frame, offset_of!(RequestHeader, client), &7_u128.to_le_bytes());
        put(&mut frame, offset_of!(RequestHeader, request), &number.to_le_bytes());
        put(&mut frame, offset_of!(RequestHeader, operation), &[operation as u8]);
        if operation == Operation::NonReplicated {
            put(&mut frame, offset_of!(RequestHeader, reserved), &code.to_le_bytes());
        }
        frame.extend_from_slice(body);
        Self { frame: frame.into() }
    }

    /// What a client sent, if it is a request at all. The frame must be whole.
    #[must_use]
    pub fn from_frame(frame: Bytes) -> Option<Self> {
        let [command] = bytes_at(&frame, offset_of!(RequestHeader, command));
        (command == Command::Request as u8 && frame.len() >= HEADER_SIZE).then_some(Self { frame })
    }

    /// The frame, header and body.
    #[must_use]
    pub const fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// What the reply will repeat.
    #[must_use]
    pub fn key(&self) -> RequestKey {
        let request = u64::from_le_bytes(bytes_at(&self.frame, offset_of!(RequestHeader, request)));
        let [operation] = bytes_at(&self.frame, offset_of!(RequestHeader, operation));
        RequestKey { request, operation }
    }

    /// The command's code, as in [`iggy_binary_protocol::codes`]. Both ways to sign in look the same from
    /// outside and count as [`codes::LOGIN_REGISTER_CODE`]; an operation that is not known counts as 0.
    #[must_use]
    pub fn code(&self) -> u32 {
        let operation = self.key().operation;
        if operation == Operation::NonReplicated as u8 {
            // Its own field is in the part of the header that is reserved.
            return u32::from_le_bytes(bytes_at(&self.frame, offset_of!(RequestHeader, reserved)));
        }
        if operation == Operation::Register as u8 {
            return codes::LOGIN_REGISTER_CODE;
        }
        if operation == Operation::Logout as u8 {
            return codes::LOGOUT_USER_CODE;
        }
        let known =
            COMMAND_TABLE.iter().find(|known| known.operation.is_some_and(|op| op as u8 == operation));
        known.map_or(0, |known| known.code)
    }

    /// What kind of request it is, as far as faults tell kinds apart.
    #[must_use]
    pub fn kind(&self) -> RequestKind {
        match self.code() {
            codes::SEND_MESSAGES_CODE => RequestKind::Append,
            codes::POLL_MESSAGES_CODE | codes::POLL_MESSAGES_ON_PRIMARY_CODE => {
                let poll = PollMessagesRequest::decode_from(self.body()).ok();
                RequestKind::Poll(poll.and_then(|poll| poll.partition_id).map(PartitionId))
            }
            codes::STORE_CONSUMER_OFFSET_CODE => {
                let store = StoreConsumerOffsetRequest::decode_from(self.body()).ok();
                RequestKind::Commit(store.and_then(|store| store.partition_id).map(PartitionId))
            }
            _ => RequestKind::Other,
        }
    }

    fn body(&self) -> &[u8] {
        &self.frame[HEADER_SIZE..]
    }

    /// The reply of a server that did what was asked: this is its body.
    #[must_use]
    pub fn answer(&self, body: &[u8]) -> Bytes {
        let mut frame = self.reply_header(0, body.len());
        frame.extend_from_slice(body);
        frame.into()
    }

    /// The reply of a server that refused, with an error code of Iggy. It has no body.
    #[must_use]
    pub fn refusal(&self, status: u32) -> Bytes {
        self.reply_header(status, 0).into()
    }

    /// The reply to a poll that finds nothing, in the shape in which the server also answers when it cannot read.
    #[must_use]
    pub fn empty_poll(&self, partition: Option<PartitionId>) -> Bytes {
        let partition_id = partition.map_or(0, |partition| partition.0);
        let body = PollMessagesResponseHeader { partition_id, current_offset: 0, messages_count: 0 };
        self.answer(&body.to_bytes())
    }

    fn reply_header(&self, status: u32, body: usize) -> Vec<u8> {
        let mut frame = header(Command::Reply, body);
        // The server repeats these, each in its own place of the other struct.
        for (from, to, length) in [
            (offset_of!(RequestHeader, cluster), offset_of!(ReplyHeader, cluster), 16),
            (offset_of!(RequestHeader, client), offset_of!(ReplyHeader, client), 16),
            (offset_of!(RequestHeader, request_checksum), offset_of!(ReplyHeader, request_checksum), 16),
            (offset_of!(RequestHeader, request), offset_of!(ReplyHeader, request), 8),
            (offset_of!(RequestHeader, operation), offset_of!(ReplyHeader, operation), 1),
        ] {
            put(&mut frame, to, &self.frame[from..from + length]);
        }
        put(&mut frame, offset_of!(ReplyHeader, status), &status.to_le_bytes());
        frame
    }
}

/// What kind of request it is, as far as faults tell kinds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// `SendMessages`.
    Append,
    /// `PollMessages`, with the partition when the client names one.
    Poll(Option<PartitionId>),
    /// `StoreConsumerOffset`, with the partition when the client names one.
    Commit(Option<PartitionId>),
    /// Anything else.
    Other,
}

/// What can be told of a reply without knowing what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it repeats of its request.
    pub key: RequestKey,
    /// 0, or an error code of Iggy: then nothing has been done. Consumer offsets and everything about streams
    /// and topics can be refused in the body too, appends cannot.
    pub status: u32,
}

impl Reply {
    /// Reads the header, unless the frame is something that nobody asked for, such as an eviction.
    #[must_use]
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        let [command] = bytes_at(frame, offset_of!(ReplyHeader, command));
        let request = u64::from_le_bytes(bytes_at(frame, offset_of!(ReplyHeader, request)));
        let [operation] = bytes_at(frame, offset_of!(ReplyHeader, operation));
        let status = u32::from_le_bytes(bytes_at(frame, offset_of!(ReplyHeader, status)));
        (command == Command::Reply as u8).then_some(Self { key: RequestKey { request, operation }, status })
    }
}
