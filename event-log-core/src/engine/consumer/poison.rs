//! Taking the head of a reader, and what happens to a record that cannot be decoded.

use std::any::Any;
use std::iter::once_with;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::notices::Notices;
use super::partition::{Hold, PartitionReader};
use crate::codec::{Codec, CodecError, DecodeError};
use crate::consumer::PoisonPolicy;
use crate::contain::contain;
use crate::dead_letter::{DeadLetter, LetterFrom};
use crate::engine::task::Task;
use crate::engine::transport::StoredMessage;
use crate::error::Error;
use crate::ext::EventLogExt;
use crate::log::EventLog;
use crate::position::Position;
use crate::record::{Notice, Record};

/// What came of looking at the head of a reader.
pub(super) enum Taken {
    /// A record, which is in the batch.
    Record,
    Notice(Notice),
    Nothing,
    /// The head stays until its letter is in the dead-letter log. The other partitions go on.
    Held,
    /// The head stays, and nothing of its partition passes it.
    Halted(Error),
}

/// Takes the head of a reader, if it can be taken. It is decoded first, and leaves the reader when it is certain what it
/// becomes: the codec is the application's code.
pub(super) fn take<E: DeserializeOwned>(
    reader: &mut PartitionReader,
    codec: &dyn Codec<E>,
    policy: &PoisonPolicy,
    from: &LetterFrom,
    records: &mut Vec<Record<E>>,
) -> Taken {
    let first = reader.first_copy();
    let partition = reader.partition();
    let Some(head) = reader.head_mut() else { return Taken::Nothing };
    let position = Position::new(partition, head.offset);
    if let Some(first) = first {
        let id = head.id;
        reader.take_head();
        return Taken::Notice(Notice::Duplicate { position, first, id });
    }
    // Made where it stays, the event in it too: a record that is moved is copied whole, which costs as much as everything
    // else here.
    records.extend(once_with(|| decoded(head, position, codec)));
    if records.last().is_some_and(|record| record.event.is_ok()) {
        reader.pass_head();
        return Taken::Record;
    }
    let Some(Record { headers, event: Err(undecodable), .. }) = records.pop() else { return Taken::Nothing };
    head.headers = headers;
    poisoned(reader, undecodable.error, policy, from, records)
}

/// What a record becomes, with the headers of the message, and with its payload if it can be decoded.
#[inline]
fn decoded<E: DeserializeOwned>(
    head: &mut StoredMessage,
    position: Position,
    codec: &dyn Codec<E>,
) -> Record<E> {
    let event = codec
        .decode_from(&mut head.payload, &head.headers)
        .map_err(|error| DecodeError::new(head.payload.clone(), error));
    Record::new(position, head.id, head.timestamp, std::mem::take(&mut head.headers), event)
}

/// What becomes of a head that cannot be decoded.
pub(super) fn poisoned<E>(
    reader: &mut PartitionReader,
    error: CodecError,
    policy: &PoisonPolicy,
    from: &LetterFrom,
    records: &mut Vec<Record<E>>,
) -> Taken {
    let Some(head) = reader.head() else { return Taken::Nothing };
    let position = Position::new(reader.partition(), head.offset);
    match (policy, &reader.hold) {
        // Also where the letter cannot be taken.
        (PoisonPolicy::Deliver, _) | (_, Hold::Refused) => {
            let Some(head) = reader.take_head() else { return Taken::Nothing };
            let undecodable = Err(DecodeError::new(head.payload, error));
            records.push(Record::new(position, head.id, head.timestamp, head.headers, undecodable));
            Taken::Record
        }
        (PoisonPolicy::Skip, _) => {
            reader.take_head();
            Taken::Notice(Notice::Skipped { position, error })
        }
        (PoisonPolicy::Park(_), Hold::Parked) => {
            let id = from.letter_id(head.id);
            reader.take_head();
            contain(|| drop(error));
            Taken::Notice(Notice::Parked { position, id })
        }
        (PoisonPolicy::Park(log), _) => {
            let letter = from.letter(position, head, &error);
            reader.hold = Hold::Parking(Task::inline(park(Arc::clone(log), letter)));
            contain(|| drop(error));
            Taken::Held
        }
        (PoisonPolicy::Halt, _) => {
            reader.hold = Hold::Halted;
            Taken::Halted(Error::Poisoned { position, error })
        }
    }
}

/// A panic of the codec as an error.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> CodecError {
    let error = CodecError::new(format!("decoding panicked: {}", message_of(&*panic)));
    contain(|| drop(panic));
    error
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Looks after the letter that a reader waits for.
pub(super) fn poll_letter(
    reader: &mut PartitionReader,
    cx: &mut Context<'_>,
    now: Instant,
    notices: &mut Notices,
) {
    match &mut reader.hold {
        Hold::Retry { at } if *at <= now => reader.hold = Hold::None,
        Hold::Parking(task) => {
            let Poll::Ready(parked) = task.poll(cx) else { return };
            reader.hold = match parked.and_then(|parked| parked) {
                Ok(()) => Hold::Parked,
                Err(error) => {
                    let is_retryable = error.is_retryable();
                    notices.fault(reader.partition(), error);
                    if is_retryable { reader.retry_letter(now) } else { Hold::Refused }
                }
            };
        }
        _ => {}
    }
}

/// Appends the letter, and waits until it is in its log.
async fn park(log: Arc<dyn EventLog<DeadLetter>>, letter: DeadLetter) -> Result<(), Error> {
    let position = letter.position;
    match log.append_acked(letter).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let (retryable, may_have_taken_effect) = (error.is_retryable(), error.may_have_taken_effect());
            Err(Error::DeadLetter { position, retryable, may_have_taken_effect, error: Box::new(error) })
        }
    }
}
