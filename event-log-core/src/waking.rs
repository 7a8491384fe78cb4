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
    let mut wakers = ContainedWaker::default();
    poll_fn(|cx| future.as_mut().poll(&mut Context::from_waker(wakers.of(cx)))).await
}

/// The waker of a task, contained, for as long as it is the same task.
#[derive(Default)]
pub(crate) struct ContainedWaker(Option<(Waker, Waker)>);

impl ContainedWaker {
    /// The waker of the task that polls, contained.
    pub(crate) fn of(&mut self, cx: &Context<'_>) -> &Waker {
        let kept = self.0.take().filter(|(waker, _)| waker.will_wake(cx.waker()));
        let (_, contained) = self.0.insert(kept.unwrap_or_else(|| {
            let waker = cx.waker().clone();
            (waker.clone(), Waker::from(Arc::new(Contained(waker))))
        }));
        contained
    }
}
