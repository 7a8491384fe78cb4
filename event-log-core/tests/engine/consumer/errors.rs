//! Attack: what the errors of a commit say.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::reading_ahead::{SECOND, Server};
use event_log_core::{
    CommitErrorKind, ConsumerOptions, Error, EventConsumer as _, EventLog as _, EventLogExt as _, PartitionId,
};

/// l2 and `CommitError::may_have_taken_effect`: "Whether something was stored, or may have been."
#[tokio::test(start_paused = true)]
async fn l2_a_commit_that_was_stored_when_the_connection_was_lost_may_have_taken_effect() {
    let server = Server::new(1);
    server.append(0, 1);
    let log = server.open().await;
    let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
    let batch = consumer.poll(100, SECOND).await.unwrap();
    assert_eq!(batch.len(), 1);
    server.change(|state| state.commit_reply_lost = true);
    let error = consumer.commit(batch.cursor()).await.unwrap_err();
    let place = server.change(|state| state.parts[0].place);
    assert!(error.may_have_taken_effect(), "{error:?}, and the place is {place:?}");
}

/// "`Error::Closed`: The log has been closed."
#[tokio::test(start_paused = true)]
async fn l2_a_commit_that_is_refused_does_not_say_that_the_log_is_closed() {
    let server = Arc::new(crate::scripted::Server::default());
    let log = server.with_events(10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = 0;
    while seen < 20 {
        seen += consumer.poll(100, SECOND).await.unwrap().len();
    }
    let all = consumer.position().clone();
    server.commit_hangs.store(true, Relaxed);
    assert!(tokio::time::timeout(SECOND, consumer.commit(&all)).await.is_err());
    server.commit_hangs.store(false, Relaxed);
    server.committed_is_refused.store(true, Relaxed);
    let error = consumer.commit(&all).await.unwrap_err();
    let closed: Vec<_> = error
        .failures()
        .iter()
        .filter(|(_, kind)| matches!(kind, CommitErrorKind::Failed(Error::Closed)))
        .map(|(partition, _)| *partition)
        .collect();
    assert_eq!(closed, Vec::<PartitionId>::new(), "{error:?}");
}
