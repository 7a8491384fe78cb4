//! Attack: what the errors of a commit say.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::picky::picky;
use crate::reading_ahead::{Reach, SECOND, Server};
use event_log_core::engine::{LogBuilder, TransportLog};
use event_log_core::{
    CommitErrorKind, ConsumerOptions, DeadLetter, Error, EventConsumer as _, EventLog as _, EventLogExt as _,
    JsonCodec, Notice, PartitionId, PoisonPolicy, ProducerConfig,
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

/// `Error::DeadLetter`: "A record could not be appended to the dead-letter log; it is offered again with the next poll." And l2:
/// its answer to whether it may have taken effect.
#[tokio::test(start_paused = true)]
async fn l2_a_letter_that_was_refused_certainly_has_no_effect() {
    let server = Server::new(1);
    let log = picky(&server).await;
    let letters_server = Server::new(1);
    let mut config = ProducerConfig::default();
    config.max_event_bytes = 40;
    let letters: TransportLog<DeadLetter, _> = LogBuilder::new(Arc::new(JsonCodec))
        .config(config)
        .open(Arc::new(Reach(Arc::clone(&letters_server))))
        .await
        .unwrap();
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(Arc::new(letters)));
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    server.append_as(0, 1, "bad");
    let batch = consumer.poll(10, SECOND).await.unwrap();
    let Some(Notice::Fault { error, .. }) = batch.notices.first() else { panic!("{batch:?}") };
    assert!(matches!(error, Error::DeadLetter { retryable: false, .. }));
    assert!(
        !error.may_have_taken_effect(),
        "it is too long, and certainly not in the log of letters: {error:?}"
    );
}
