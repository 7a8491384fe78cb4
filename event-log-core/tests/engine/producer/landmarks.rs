//! A stretch that cannot be read, behind a landmark that can.

use crate::served::{Fate, FetchFate, HOUR, SECOND, Server, event};
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{sleep, timeout};

/// DESIGN: "one stretch that cannot be read must not stop a partition for ever"; a4: "no ticket stays pending for ever".
async fn stretch(acknowledged: bool, fate: FetchFate) {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    if acknowledged {
        log.append_acked(event(0, 0)).await.unwrap();
    }
    server.with(0, |partition| partition.stretch = Some(fate));
    server.fate(0, Fate::ReplyLost);
    let lost = log.submit(event(0, 1)).unwrap();
    sleep(SECOND).await;
    let behind = log.submit(event(0, 2)).unwrap();
    let outcome = timeout(24 * HOUR, lost).await;
    let fetched = server.with(0, |partition| partition.fetched);
    assert!(outcome.is_ok(), "it is pending after a day, and {fetched} fetches; {:?}", log.state().current());
    assert!(outcome.unwrap().unwrap_err().may_have_taken_effect());
    timeout(HOUR, behind).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a4_a_stretch_whose_fetch_loses_the_connection_is_given_up() {
    stretch(true, FetchFate::Unavailable).await;
}

#[tokio::test(start_paused = true)]
async fn a4_a_stretch_whose_fetch_times_out_is_given_up() {
    stretch(true, FetchFate::TimesOut(5_000)).await;
}

#[tokio::test(start_paused = true)]
async fn control_a_stretch_whose_fetch_fails_is_given_up() {
    stretch(true, FetchFate::Fault).await;
}

#[tokio::test(start_paused = true)]
async fn control_a_stretch_without_a_landmark_is_given_up() {
    stretch(false, FetchFate::TimesOut(5_000)).await;
}

/// DESIGN: "What was read is not read again when that connection is lost too." The requests of another partition lose the
/// connections every three seconds, and each fetch takes two: no fetch ever fails.
async fn interrupted(acknowledged: bool) {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    if acknowledged {
        log.append_acked(event(0, 0)).await.unwrap();
    }
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::After(2_000)));
    server.with(1, |partition| partition.every_send = Some(Fate::Cut(3_000)));
    server.fate(0, Fate::ReplyLost);
    let lost = log.submit(event(0, 1)).unwrap();
    log.state().wait_for(|state| !state.is_connected()).await;
    let _other = log.submit(event(1, 0)).unwrap();
    let outcome = timeout(24 * HOUR, lost).await;
    let fetched = server.with(0, |partition| partition.fetched);
    assert!(outcome.is_ok(), "it is pending after a day, and {fetched} fetches; {:?}", log.state().current());
    outcome.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a4_a_partition_is_read_back_although_another_one_loses_the_connections() {
    interrupted(true).await;
}

#[tokio::test(start_paused = true)]
async fn control_a_partition_without_a_landmark_is_read_back_although_another_one_loses_the_connections() {
    interrupted(false).await;
}
