//! Clause c6: records that cannot be decoded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking::Letters;

use super::fixture::{
    Log, PATIENCE, Probe, Reader, append, assert_dry, numbers, open_with, partitions, poll, read, reader_with,
};
use super::{CaseResult, Defect, Fault, Harness};
use crate::codec::{Codec as _, JsonCodec};
use crate::consumer::{ConsumerOptions, PoisonPolicy};
use crate::error::Error;
use crate::position::{Cursor, PartitionId, SeekPosition};
use crate::record::Notice;

/// Five events, of which number 2 cannot be decoded.
async fn five_events(harness: &dyn Harness) -> Log {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..5 {
        let event = Probe::new("k", number);
        append(&log, if number == 2 { event.with_defect(Defect::DecodeError) } else { event }).await;
    }
    log
}

async fn reader(log: &Log, policy: PoisonPolicy) -> Reader {
    reader_with(log, "readers", ConsumerOptions::default().poison(policy)).await
}

pub(super) async fn c6_a_poisoned_record_is_delivered_as_such(harness: &dyn Harness) -> CaseResult {
    let log = five_events(harness).await;
    let mut reader = reader(&log, PoisonPolicy::Deliver).await;
    let records = read(&mut reader, 5).await;
    let undecodable = records[2].event.as_ref().expect_err("it cannot be decoded");
    assert_eq!(undecodable.payload, Bytes::from_static(b"\"not a probe\""), "with its bytes");
    assert!(!undecodable.error.to_string().is_empty());
    assert_eq!(numbers(records.iter().filter(|record| record.event.is_ok())), [0, 1, 3, 4]);
    let position = reader.position().clone();
    reader.commit(&position).await.expect("it can be committed");
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 0);
    Ok(())
}

pub(super) async fn c6_a_poisoned_record_can_be_skipped(harness: &dyn Harness) -> CaseResult {
    let log = five_events(harness).await;
    let mut reader = reader(&log, PoisonPolicy::Skip).await;
    let (mut seen, mut skipped) = (Vec::new(), 0);
    while seen.len() < 4 {
        let batch = poll(&mut reader, 10, PATIENCE).await;
        assert!(!batch.is_empty(), "only {seen:?} came");
        skipped += batch.notices.iter().filter(|notice| matches!(notice, Notice::Skipped { .. })).count();
        seen.extend(numbers(&batch));
    }
    assert_eq!((seen, skipped), (vec![0, 1, 3, 4], 1));
    let position = reader.position().clone();
    reader.commit(&position).await.expect("the commit succeeds");
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 0);
    Ok(())
}

pub(super) async fn c6_a_poisoned_record_can_be_parked(harness: &dyn Harness) -> CaseResult {
    let log = five_events(harness).await;
    let letters = Arc::new(Letters::default());
    letters.fail(true);
    let mut reader = reader(&log, PoisonPolicy::Park(letters.clone())).await;
    assert_eq!(numbers(&read(&mut reader, 2).await), [0, 1], "what comes before it is delivered first");
    let batch = poll(&mut reader, 10, PATIENCE).await;
    let [Notice::Fault { error, .. }] = batch.notices.as_slice() else {
        panic!("it cannot be parked: {batch:?}")
    };
    assert!(matches!(error, Error::DeadLetter { position, .. } if position.offset.0 >= 2), "{error:?}");
    assert!(batch.is_empty() && error.is_retryable(), "nothing passes it: {batch:?}");
    letters.fail(false);
    let batch = poll(&mut reader, 10, PATIENCE).await;
    assert_eq!(numbers(&batch), [3, 4], "nothing behind it is lost");
    assert!(
        batch.notices.iter().any(|notice| matches!(notice, Notice::Parked { .. })),
        "{:?}",
        batch.notices
    );
    let parked = letters.take();
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert_eq!((parked[0].group.as_str(), &parked[0].payload[..]), ("readers", &b"\"not a probe\""[..]));
    let said = JsonCodec.decode(&parked[0].payload, &parked[0].headers).map(|_: Probe| ());
    assert_eq!(
        Some(&parked[0].reason),
        said.err().map(|said| said.to_string()).as_ref(),
        "as the codec says"
    );
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn c6_a_poisoned_record_can_halt(harness: &dyn Harness) -> CaseResult {
    let log = five_events(harness).await;
    let mut reader = reader(&log, PoisonPolicy::Halt).await;
    assert_eq!(numbers(&read(&mut reader, 2).await), [0, 1], "what comes before it is delivered first");
    let mut halted_at = None;
    for _ in 0..3 {
        match reader.poll(10, Duration::ZERO).await {
            Err(error @ Error::Poisoned { position, .. }) => {
                assert!(!error.is_retryable(), "polling again does not help");
                halted_at = Some(position);
            }
            other => panic!("{other:?}"),
        }
    }
    let mut past = Cursor::new();
    past.advance_past(halted_at.expect("it has halted"));
    reader.seek(SeekPosition::Cursor(past)).await.expect("the seek succeeds");
    assert_eq!(numbers(&read(&mut reader, 2).await), [3, 4]);
    Ok(())
}

pub(super) async fn c6_a_foreign_message_stops_nothing(harness: &dyn Harness) -> CaseResult {
    let log = five_events(harness).await;
    let foreign = Bytes::from_static(b"\xff\x00 not even text");
    harness.inject(Fault::AppendForeign(PartitionId(0), foreign.clone())).await?;
    harness.inject(Fault::AppendForeign(PartitionId(0), foreign.clone())).await?;
    append(&log, Probe::new("k", 5)).await;
    let records = read(&mut reader(&log, PoisonPolicy::Deliver).await, 8).await;
    let bytes: Vec<_> = records[5..7].iter().filter_map(|record| record.event.as_ref().err()).collect();
    assert_eq!(bytes.len(), 2, "two messages with the same bytes are two records");
    assert!(bytes.iter().all(|undecodable| undecodable.payload == foreign));
    assert_ne!(records[5].id, records[6].id, "each has an id of its own");
    assert_eq!(numbers(&records[7..]), [5]);
    Ok(())
}

/// A dead-letter log that keeps its letters in a vector and fails when it is told to.
pub(super) mod parking {
    use std::sync::Mutex;

    use super::{Arc, AtomicBool, Duration, Ordering, async_trait};
    use crate::consumer::{ConsumerOptions, EventConsumer};
    use crate::dead_letter::DeadLetter;
    use crate::error::{AppendError, BatchError, Error, SubmitError, SubmitErrorKind};
    use crate::event::EventId;
    use crate::log::{CloseError, EventLog};
    use crate::position::PartitionId;
    use crate::receipt::{AppendAck, Receipt};
    use crate::state::{StateReceiver, StateSender};
    use crate::ticket::Ticket;
    use crate::watermark::{Lag, Watermarks};

    #[derive(Default)]
    pub(in super::super) struct Letters {
        letters: Mutex<Vec<DeadLetter>>,
        fails: AtomicBool,
    }

    impl Letters {
        pub(in super::super) fn fail(&self, fails: bool) {
            self.fails.store(fails, Ordering::SeqCst);
        }

        pub(in super::super) fn take(self: &Arc<Self>) -> Vec<DeadLetter> {
            std::mem::take(&mut self.letters.lock().expect("nobody panics here"))
        }
    }

    #[async_trait]
    impl EventLog<DeadLetter> for Letters {
        fn submit(&self, letter: DeadLetter) -> Result<Ticket<DeadLetter>, SubmitError<DeadLetter>> {
            if self.fails.load(Ordering::SeqCst) {
                return Err(SubmitError { event: letter, kind: SubmitErrorKind::Full });
            }
            let committed = AppendAck::new(EventId::from_u128(letter.id.as_u128()), PartitionId(0), None);
            self.letters.lock().expect("nobody panics here").push(letter);
            Ok(Ticket::resolved(Ok(committed)))
        }

        async fn append(&self, letter: DeadLetter) -> Result<Receipt<DeadLetter>, AppendError<DeadLetter>> {
            self.submit(letter)?.receipt().await
        }

        async fn append_batch(
            &self,
            _: Vec<DeadLetter>,
        ) -> Result<Vec<Receipt<DeadLetter>>, BatchError<DeadLetter>> {
            Ok(Vec::new())
        }

        async fn consumer_with(
            &self,
            _: &str,
            _: ConsumerOptions,
        ) -> Result<Box<dyn EventConsumer<DeadLetter>>, Error> {
            Err(Error::Unsupported("reading letters"))
        }

        async fn watermarks(&self) -> Result<Watermarks, Error> {
            Ok(Watermarks::default())
        }

        async fn lag(&self, _: &str) -> Result<Lag, Error> {
            Ok(Lag::default())
        }

        async fn delete_group(&self, _: &str) -> Result<(), Error> {
            Ok(())
        }

        fn state(&self) -> StateReceiver {
            StateSender::default().subscribe()
        }

        async fn flush(&self) -> Result<(), Error> {
            Ok(())
        }

        async fn close(&self, _: Duration) -> Result<(), CloseError<DeadLetter>> {
            Ok(())
        }
    }
}
