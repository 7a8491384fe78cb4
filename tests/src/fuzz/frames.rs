//! Frames of the Iggy protocol: what the fault proxy makes of them, and what a client makes of the answers.

use std::fmt::Debug;

use bytes::Bytes;
use event_log_core::PartitionId;
use iggy_binary_protocol::responses::consumer_groups::SyncConsumerGroupResponse;
use iggy_binary_protocol::responses::messages::SendMessagesResponse;
use iggy_binary_protocol::{HEADER_SIZE, WireDecode, WireEncode, read_size_field};

use crate::proxy::wire::{Reply, Request};

/// Takes bytes for a request, for a reply, and for the bodies that `event-log-iggy` reads itself.
///
/// A request keeps what it is: a reply that is made for it is found to be its reply, and is as long as it says.
///
/// The messages of a poll are read by the SDK, and are not looked at here: version 0.11.0 of its protocol crate adds a
/// message's part of the offset to that of its batch without a check, so that the fuzzer finds at once, and again and again,
/// that a server that means offsets beyond 64 bits makes a debug build panic.
///
/// # Panics
///
/// If that does not hold.
pub fn frames(data: &[u8]) {
    let _ = Reply::from_frame(data);
    if let Some(request) = Request::from_frame(Bytes::copy_from_slice(data)) {
        check_request(&request);
    }
    if let Some((code, body)) = data.split_first_chunk() {
        check_request(&Request::new(u32::from_le_bytes(*code), 7, body));
    }
    check_body::<SendMessagesResponse>(data);
    check_body::<SyncConsumerGroupResponse>(data);
}

fn check_request(request: &Request) {
    let key = request.key();
    assert!(!request.frame().is_empty());
    let again = Request::from_frame(request.frame().clone()).expect("it was a request before");
    assert_eq!((again.key(), again.code(), again.kind()), (key, request.code(), request.kind()));
    let partition = Some(PartitionId(1));
    let replies = [
        (request.refusal(4011), 4011, 0),
        (request.answer(b"body"), 0, 4),
        (request.empty_poll(partition), 0, 16),
    ];
    for (frame, status, body) in replies {
        let reply = Reply::from_frame(&frame).expect("it is a reply");
        assert_eq!((reply.key, reply.status), (key, status));
        assert_eq!(frame.len(), HEADER_SIZE + body);
        assert_eq!(read_size_field(&frame).map(|size| size as usize), Some(frame.len()));
    }
}

fn check_body<T: WireDecode + WireEncode + PartialEq + Debug>(body: &[u8]) {
    let Ok((value, read)) = T::decode(body) else { return };
    assert!(read <= body.len());
    let written = value.to_bytes();
    let (again, _) = T::decode(&written).unwrap_or_else(|error| panic!("{error:?}: {value:?}"));
    assert_eq!(again, value);
}
