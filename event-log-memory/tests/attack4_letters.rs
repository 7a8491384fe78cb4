//! Attempts to lose what a letter says: headers of the record beside headers of the codec of the letters.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event_log_core::{
    Codec, CodecError, ConsumerOptions, DeadLetter, EventConsumer as _, EventLog as _, EventLogExt as _,
    Headers, PoisonPolicy, RawCodec, RawEvent,
};
use event_log_memory::MemoryBroker;

const SECOND: Duration = Duration::from_secs(1);

/// A codec whose version is in the headers: "a content type or a schema version".
struct Letters;

impl Codec<DeadLetter> for Letters {
    fn encode(&self, event: &DeadLetter, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, event).map_err(CodecError::new)
    }

    fn headers(&self, _: &DeadLetter) -> Headers {
        let mut headers = Headers::new();
        headers.insert("content-type", "application/json").unwrap();
        headers
    }

    fn decode(&self, payload: &Bytes, headers: &Headers) -> Result<DeadLetter, CodecError> {
        match headers.get("content-type") {
            Some(kind) if kind == "application/json" => {
                serde_json::from_slice(payload).map_err(CodecError::new)
            }
            other => Err(CodecError::new(format!("a letter of type {other:?}"))),
        }
    }
}

/// Cannot decode anything, and puts its content type beside what it encodes.
struct Broken;

impl Codec<RawEvent> for Broken {
    fn encode(&self, event: &RawEvent, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&event.payload);
        Ok(())
    }

    fn headers(&self, _: &RawEvent) -> Headers {
        let mut headers = Headers::new();
        headers.insert("content-type", "application/cbor").unwrap();
        headers
    }

    fn decode(&self, _: &Bytes, _: &Headers) -> Result<RawEvent, CodecError> {
        Err(CodecError::new("broken"))
    }
}

/// c6: "parked in a dead-letter log"; a18: "so that what is acknowledged can be read".
#[tokio::test(start_paused = true)]
async fn c6_a_letter_can_be_read_whatever_headers_its_record_has() {
    let _ = RawCodec;
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().codec(Broken).broker(&broker).partitions(1).open().await.unwrap();
    let letters: event_log_memory::MemoryLog<DeadLetter> =
        event_log_memory::builder().codec(Letters).partitions(1).open().await.unwrap();
    log.append_acked(RawEvent::new("k".to_owned(), "x".to_owned())).await.unwrap();
    let policy = PoisonPolicy::Park(Arc::new(letters.clone()));
    let mut consumer = log.consumer_with("g", ConsumerOptions::default().poison(policy)).await.unwrap();
    let batch = consumer.poll(10, SECOND).await.unwrap();
    println!("{:?}", batch.notices);
    let mut reader = letters.consumer("r").await.unwrap();
    let batch = reader.poll(10, SECOND).await.unwrap();
    assert_eq!(batch.records.len(), 1);
    assert!(batch.records[0].event.is_ok(), "{:?}", batch.records[0].event.as_ref().err());
}
