//! Awaited work with an owner.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::contain::contain;
use crate::error::{BoxError, Error};

/// A future that is kept by the struct whose state it will change, and not by the future that waits for it: what else
/// wakes its owner neither ends nor restarts it. Dropping it ends it.
pub(super) enum Task<T> {
    /// Makes progress while its owner polls it.
    Inline(Option<Pin<Box<dyn Future<Output = T> + Send>>>),
    /// Makes progress by itself, also while its owner is not polled.
    Spawned(JoinHandle<T>),
}

impl<T: Send + 'static> Task<T> {
    pub(super) fn inline(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Inline(Some(Box::pin(work)))
    }

    pub(super) fn spawned(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Spawned(runtime.spawn(work))
    }

    /// The result. An error says that the work has panicked, or that its runtime has shut down. Must not be polled again
    /// after it was ready.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        match self {
            Self::Inline(kept) => {
                let Some(work) = kept else { return Poll::Pending };
                match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                    Ok(polled) => polled.map(Ok),
                    Err(panic) => {
                        contain(|| drop(panic));
                        let work = kept.take();
                        contain(|| drop(work));
                        Poll::Ready(Err(failed("it panicked".into())))
                    }
                }
            }
            Self::Spawned(handle) => Pin::new(handle).poll(cx).map_err(|error| failed(Box::new(error))),
        }
    }
}

fn failed(error: BoxError) -> Error {
    Error::Backend { retryable: true, may_have_taken_effect: true, error }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        match self {
            // The work may hold what is the application's, such as a letter or its log.
            Self::Inline(work) => {
                let work = work.take();
                contain(|| drop(work));
            }
            Self::Spawned(handle) => handle.abort(),
        }
    }
}

/// Polls a task that may be there, and takes it out when it has ended.
pub(super) fn poll_task<T: Send + 'static>(
    task: &mut Option<Task<T>>,
    cx: &mut Context<'_>,
) -> Option<Result<T, Error>> {
    match task.as_mut()?.poll(cx) {
        Poll::Ready(result) => {
            *task = None;
            Some(result)
        }
        Poll::Pending => None,
    }
}
