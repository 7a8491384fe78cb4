//! Taking turns with the other tasks of a thread.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

/// Uses up some of the budget of the task: a loop of calls that never wait leaves the others on its thread their turn. Without
/// the engine there is nothing that could wait, and no runtime to ask.
pub(crate) async fn take_turn() {
    #[cfg(feature = "engine")]
    tokio::task::coop::consume_budget().await;
}

/// The same for what is polled by hand.
pub(crate) fn poll_turn(cx: &mut Context<'_>) -> Poll<()> {
    pin!(take_turn()).poll(cx)
}
