//! What the attacks on the consuming side share.

use std::future::{Future, poll_fn};
use std::task::Poll;

use event_log_core::{EventConsumer, EventId, Notice, Partitionable};
use serde::{Deserialize, Serialize};

use crate::fixture::SHORT;

/// An event with an id and a key of the caller's choice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) id: u128,
    pub(crate) key: String,
}

impl Partitionable for Named {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.key)
    }

    fn event_id(&self) -> Option<EventId> {
        Some(EventId::from_u128(self.id))
    }
}

pub(crate) fn named(id: u128) -> Named {
    Named { id, key: "k".to_owned() }
}

pub(crate) async fn drain<E: Send + 'static>(
    consumer: &mut Box<dyn EventConsumer<E>>,
) -> (Vec<E>, Vec<Notice>) {
    let (mut events, mut notices) = (Vec::new(), Vec::new());
    loop {
        let mut batch = consumer.poll(100, SHORT).await.unwrap();
        if batch.is_empty() && batch.notices.is_empty() {
            return (events, notices);
        }
        notices.append(&mut batch.notices);
        events.extend(batch.into_events());
    }
}

/// Polls a future, and fails when it is woken too often.
pub(crate) async fn within_wakeups<F: Future>(future: F, most: usize) -> F::Output {
    let mut future = Box::pin(future);
    let mut count = 0;
    poll_fn(move |cx| {
        count += 1;
        assert!(count <= most, "the future was polled {most} times: it keeps the processor busy");
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() { Poll::Pending } else { polled }
    })
    .await
}
