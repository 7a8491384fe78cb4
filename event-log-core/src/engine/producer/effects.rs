//! What changes of the queue have decided, until the lock has been released.

use std::sync::Arc;
use std::task::Waker;

use tokio::sync::oneshot;

use super::entry::{Entry, NOT_ACCEPTED};
use crate::engine::transport::Message;
use crate::error::AppendErrorKind;
use crate::position::Offset;

/// What is done after the lock has been released: all of it runs code of the application or of its executor.
pub(in crate::engine) struct Effects<E> {
    /// A request that was acknowledged, and where its first event is.
    pub(in crate::engine) acked: Option<(Vec<Entry<E>>, Option<Offset>)>,
    /// Events that reading back has found.
    pub(in crate::engine) found: Vec<(Entry<E>, Offset)>,
    pub(in crate::engine) failed: Vec<(Entry<E>, AppendErrorKind)>,
    /// Of events that are in the reconnect buffer now.
    pub(in crate::engine) wakers: Vec<Waker>,
    /// Of requests that came to an end: a payload may be the application's.
    pub(in crate::engine) messages: Vec<Arc<[Message]>>,
    /// Dropping one wakes the `append` that waited for space.
    pub(in crate::engine) released: Vec<oneshot::Sender<()>>,
    /// Events of calls that were dropped while they waited.
    pub(in crate::engine) cancelled: Vec<Entry<E>>,
    /// How many of those that failed were dropped by the overflow policy.
    pub(in crate::engine) dropped: u64,
    /// The first event that expires may be another one than before.
    pub(in crate::engine) may_expire_sooner: bool,
    /// The log is closing: what fails now and has no ticket comes back from `close`.
    pub(in crate::engine) is_closing: bool,
}

impl<E> Default for Effects<E> {
    fn default() -> Self {
        Self {
            acked: None,
            found: Vec::new(),
            failed: Vec::new(),
            wakers: Vec::new(),
            messages: Vec::new(),
            released: Vec::new(),
            cancelled: Vec::new(),
            dropped: 0,
            may_expire_sooner: false,
            is_closing: false,
        }
    }
}

impl<E> Effects<E> {
    /// Of the accepted events among them.
    pub(in crate::engine) fn first_sequence(&self) -> Option<u64> {
        let acked = self.acked.iter().flat_map(|(entries, _)| entries.first());
        let found = self.found.iter().map(|(entry, _)| entry);
        let entries = acked.chain(found).chain(self.failed.iter().map(|(entry, _)| entry));
        entries.map(|entry| entry.sequence).filter(|&sequence| sequence != NOT_ACCEPTED).min()
    }
}
