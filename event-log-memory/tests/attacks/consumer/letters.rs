//! Letters, and what they carry.

use crate::fixture::SECOND;
use bytes::Bytes;
use event_log_core::{
    Codec, CodecError, ConsumerOptions, DeadLetter, EventConsumer as _, EventLog as _, EventLogExt as _,
    Headers, Notice, Partitionable, PoisonPolicy, RawCodec, RawEvent,
};
use event_log_memory::MemoryBroker;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Serialize, Deserialize)]
struct Versioned {
    number: u64,
}

impl Partitionable for Versioned {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }

    fn headers(&self) -> Headers {
        let mut headers = Headers::new();
        headers.insert("trace", "4711").unwrap();
        headers
    }
}

/// A codec whose version is in the headers: "a content type or a schema version".
struct OfVersion(&'static str);

impl Codec<Versioned> for OfVersion {
    fn encode(&self, event: &Versioned, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(event.number.to_string().as_bytes());
        Ok(())
    }

    fn headers(&self, _: &Versioned) -> Headers {
        let mut headers = Headers::new();
        headers.insert("version", self.0).unwrap();
        headers
    }

    fn decode(&self, payload: &bytes::Bytes, headers: &Headers) -> Result<Versioned, CodecError>
    where
        Versioned: DeserializeOwned,
    {
        if headers.get("version").map(|version| &version[..]) != Some(self.0.as_bytes()) {
            return Err(CodecError::new("another version"));
        }
        let text = std::str::from_utf8(payload).map_err(CodecError::new)?;
        Ok(Versioned { number: text.parse().map_err(CodecError::new)? })
    }
}

/// `DeadLetter`: "A record that a consumer could not decode, with all that is needed to look at it, or to append it again once the
/// reader knows its shape." Decoding is given the payload and the headers.
#[tokio::test(start_paused = true)]
async fn c6_a_letter_has_the_headers_of_its_record() {
    let broker = event_log_memory::MemoryBroker::new();
    let new =
        event_log_memory::builder().codec(OfVersion("2")).broker(&broker).partitions(1).open().await.unwrap();
    new.append_acked(Versioned { number: 5 }).await.unwrap();
    let old =
        event_log_memory::builder().codec(OfVersion("1")).broker(&broker).partitions(1).open().await.unwrap();
    let letters = event_log_memory::builder::<DeadLetter>().open().await.unwrap();
    let policy = PoisonPolicy::Park(Arc::new(letters.clone()));
    let mut consumer = old.consumer_with("g", ConsumerOptions::default().poison(policy)).await.unwrap();
    let batch = consumer.poll(100, SECOND).await.unwrap();
    assert!(matches!(batch.notices[..], [Notice::Parked { .. }]), "{batch:?}");
    let mut reader = letters.consumer("r").await.unwrap();
    let batch = reader.poll(100, SECOND).await.unwrap();
    let record = batch.into_iter().next().unwrap();
    let mut found = record.headers.clone();
    let letter = record.event.unwrap();
    let text = serde_json::to_string(&letter).unwrap();
    let has_them = text.contains("version") && text.contains("trace");
    let beside = found.get("version").is_some();
    drop(found.insert("x", "y"));
    // Appended again as it is: can a reader that knows its shape read it?
    assert!(has_them || beside, "neither in the letter, {text}, nor beside it, {:?}", record.headers);
}

/// l5: "No event and no credential appears in `Debug`".
#[tokio::test(start_paused = true)]
async fn l5_a_letter_shows_no_payload() {
    let (log, faults, _) = crate::fixture::open().await;
    faults.append_foreign(event_log_core::PartitionId(0), "the password is 4711").unwrap();
    let letters = event_log_memory::builder::<DeadLetter>().open().await.unwrap();
    let policy = PoisonPolicy::Park(Arc::new(letters.clone()));
    let mut consumer = log.consumer_with("g", ConsumerOptions::default().poison(policy)).await.unwrap();
    drop(consumer.poll(100, SECOND).await.unwrap());
    let mut reader = letters.consumer("r").await.unwrap();
    let batch = reader.poll(100, SECOND).await.unwrap();
    let shown = format!("{batch:?}");
    assert!(!shown.contains("4711"), "{shown}");
}

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
    assert_eq!(batch.notices.len(), 1, "{:?}", batch.notices);
    let mut reader = letters.consumer("r").await.unwrap();
    let batch = reader.poll(10, SECOND).await.unwrap();
    assert_eq!(batch.records.len(), 1);
    assert!(batch.records[0].event.is_ok(), "{:?}", batch.records[0].event.as_ref().err());
}
