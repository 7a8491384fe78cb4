//! What happens to a record that cannot be decoded.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::lane::Lane;
use crate::codec::{Codec, CodecError, DecodeError};
use crate::consumer::PoisonPolicy;
use crate::dead_letter::DeadLetter;
use crate::engine::transport::StoredMessage;
use crate::error::Error;
use crate::ext::EventLogExt;
use crate::log::EventLog;
use crate::position::Position;
use crate::record::{Notice, Record};

/// What came of taking the head of a lane.
pub(super) enum Taken {
    /// It is with the records.
    Delivered,
    Notice(Notice),
    /// The head stays, and nothing passes it.
    Halted(Error),
    /// The head stays until its letter is in the dead-letter log.
    Park(Arc<dyn EventLog<DeadLetter>>, DeadLetter),
}

/// Takes the head of `lane`, which must have one, to the end of `records`: straight there, since a record that is handed
/// on is copied each time.
pub(super) fn take<E: DeserializeOwned>(
    lane: &mut Lane,
    codec: &dyn Codec<E>,
    policy: &PoisonPolicy,
    group: &str,
    records: &mut Vec<Record<E>>,
) -> Taken {
    let before = lane.mark();
    let Some((mut head, first)) = lane.take_head() else { unreachable!("the lane was chosen for its head") };
    let position = Position::new(lane.partition(), head.offset);
    if let Some(first) = first {
        return Taken::Notice(Notice::Duplicate { position, first, id: head.id });
    }
    let DecodeError { payload, error } =
        match codec.decode_owned(std::mem::take(&mut head.payload), &head.headers) {
            Ok(event) => {
                records.push(Record::new(position, head.id, head.timestamp, head.headers, Ok(event)));
                return Taken::Delivered;
            }
            Err(undecodable) => undecodable,
        };
    head.payload = payload;
    match policy {
        PoisonPolicy::Deliver => {
            let undecodable = DecodeError::new(head.payload, error);
            records.push(Record::new(position, head.id, head.timestamp, head.headers, Err(undecodable)));
            Taken::Delivered
        }
        PoisonPolicy::Skip => Taken::Notice(Notice::Skipped { position, error }),
        PoisonPolicy::Park(_) if lane.is_parked(position.offset) => {
            Taken::Notice(Notice::Parked { position, id: head.id })
        }
        PoisonPolicy::Park(log) => {
            let letter = letter(group, position, &head, &error);
            lane.put_back(head, before);
            Taken::Park(Arc::clone(log), letter)
        }
        PoisonPolicy::Halt => {
            lane.put_back(head, before);
            Taken::Halted(Error::Poisoned { position, error })
        }
    }
}

fn letter(group: &str, position: Position, head: &StoredMessage, error: &CodecError) -> DeadLetter {
    let (group, reason) = (group.to_owned(), error.to_string());
    DeadLetter::new(group, position, head.id, head.timestamp, reason, head.payload.clone())
}

/// Appends the letter, and waits until it is in its log.
pub(super) async fn park(log: Arc<dyn EventLog<DeadLetter>>, letter: DeadLetter) -> Result<(), Error> {
    let position = letter.position;
    match log.append_acked(letter).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::DeadLetter { position, error: Box::new(error) }),
    }
}
