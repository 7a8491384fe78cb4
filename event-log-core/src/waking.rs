//! Waking tasks of the application: a waker is its code, or its executor's.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use crate::contain::contain;

/// A waker whose panics end where it is woken: the task that wakes it goes on, and so do the others that it wakes.
struct Contained(Waker);

impl Wake for Contained {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        contain(|| self.0.wake_by_ref());
    }
}

/// Awaits a future that another task completes, without that task ever running the waker of this one unguarded. Channels
/// wake several receivers in a row, and one that panics would leave the rest asleep.
pub async fn contain_wakes<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut kept: Option<(Waker, Waker)> = None;
    poll_fn(|cx| {
        let contained = match &kept {
            Some((waker, contained)) if waker.will_wake(cx.waker()) => contained.clone(),
            _ => {
                let contained = Waker::from(Arc::new(Contained(cx.waker().clone())));
                kept = Some((cx.waker().clone(), contained.clone()));
                contained
            }
        };
        future.as_mut().poll(&mut Context::from_waker(&contained))
    })
    .await
}
