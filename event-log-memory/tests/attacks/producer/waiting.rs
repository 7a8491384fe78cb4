//! Callers that wait for space and are not polled, and what it keeps.

use std::time::Duration;

use crate::producing::{HOUR, Numbered, SECOND, begin, config, cut, open};
use event_log_core::{EventLog as _, Overflow};
use tokio::time::{sleep, timeout};

/// `Overflow::Block`: "`append` waits for space until the deadline, then the new event comes back as `Full`"; l7: "code of the
/// caller may ... take long ...: that call fails or waits, and no event of another caller is ... stuck". A batch waits for space
/// beyond its deadline, because its caller has something else to do; there is space for others.
#[tokio::test(start_paused = true)]
async fn l7_a_batch_whose_deadline_has_passed_keeps_no_others_out() {
    let block = Overflow::Block { deadline: 5 * SECOND };
    let (log, faults, _broker) =
        open(config(|config| (config.buffer_events, config.overflow) = (10, block))).await;
    cut(&log, &faults).await;
    let _waiting: Vec<_> = (0..5).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    let mut batch = log.append_batch((5..11).map(Numbered).collect());
    assert!(begin(&mut batch).is_none(), "it waits for space");
    sleep(HOUR).await;
    let buffered = log.state().current().buffered;
    let submitted = log.submit(Numbered(100));
    assert!(submitted.is_ok(), "{submitted:?}, with {buffered} of 10 events in the buffer");
    drop(batch);
}

/// The same for another `append`, which would wait no longer than its own deadline.
#[tokio::test(start_paused = true)]
async fn l7_a_batch_whose_deadline_has_passed_keeps_no_append_out() {
    let block = Overflow::Block { deadline: 5 * SECOND };
    let (log, faults, _broker) =
        open(config(|config| (config.buffer_events, config.overflow) = (10, block))).await;
    cut(&log, &faults).await;
    let _waiting: Vec<_> = (0..5).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    let mut batch = log.append_batch((5..11).map(Numbered).collect());
    assert!(begin(&mut batch).is_none(), "it waits for space");
    sleep(HOUR).await;
    let appended = timeout(HOUR, log.append(Numbered(100))).await.unwrap();
    assert!(appended.is_ok(), "{appended:?}");
    drop(batch);
}

/// What is let in long after its deadline has passed, because its caller has not looked.
#[tokio::test(start_paused = true)]
async fn a5_an_append_whose_deadline_has_passed_is_not_let_in() {
    let block = Overflow::Block { deadline: 5 * SECOND };
    let (log, faults, broker) =
        open(config(|config| (config.buffer_events, config.overflow) = (1, block))).await;
    cut(&log, &faults).await;
    let _waiting = log.submit(Numbered(0)).unwrap();
    let mut append = log.append(Numbered(1));
    assert!(begin(&mut append).is_none(), "it waits for space");
    sleep(HOUR).await;
    faults.reconnect();
    log.flush().await.unwrap();
    sleep(SECOND).await;
    let appended = timeout(SECOND, append).await.unwrap();
    eprintln!("{appended:?} {:?}", crate::producing::numbers(&broker));
    assert!(appended.is_err(), "an hour after its deadline it was let in");
    let _ = Duration::ZERO;
}
