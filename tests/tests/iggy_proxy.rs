//! The fault proxy before a real iggy-server: what the client of the SDK is told, and what is then in the log.

mod real_iggy;

use std::future::Future;
use std::time::{Duration, Instant};

use event_log_core::PartitionId;
use event_log_tests::iggy::own_server;
use event_log_tests::proxy::wire::{CANNOT_OPEN_OFFSETS, CANNOT_READ_MESSAGE};
use event_log_tests::proxy::{Direction, NetworkFault};
use iggy::prelude::{IggyError, IggyMessage, SystemClient as _};
use iggy_binary_protocol::codes;
use real_iggy::Stage;

/// A test that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sooner than anything that the SDK waits for.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn on_stage<F: Future<Output = ()>>(test: impl FnOnce(Stage) -> F) {
    in_time(async {
        if let Some(stage) = Stage::set().await {
            test(stage).await;
        }
    });
}

fn in_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("there is a runtime").block_on(async {
        tokio::time::timeout(PATIENCE, test).await.expect("the test ends");
    });
}

fn assert_disconnected<T: std::fmt::Debug>(result: &Result<T, IggyError>) {
    assert!(matches!(result, Err(IggyError::Disconnected)), "{result:?}");
}

#[test]
fn everything_goes_through_and_is_counted() {
    on_stage(|stage| async move {
        let client = stage.client().await;
        for number in 0..3 {
            assert_eq!(client.send(&number.to_string()).await.expect("it is appended"), number);
        }
        assert_eq!(client.read().await.expect("it is read"), ["0", "1", "2"]);
        client.store(0, 2).await.expect("it is stored");
        assert_eq!(client.stored(0).await, Some(2));
        client.tcp.ping().await.expect("it is there");
        let counts = stage.proxy.counts();
        assert_eq!(counts.appends_forwarded, 3);
        for (code, times) in [
            (codes::LOGIN_REGISTER_CODE, 1),
            (codes::SEND_MESSAGES_CODE, 3),
            (codes::POLL_MESSAGES_CODE, 1),
            (codes::STORE_CONSUMER_OFFSET_CODE, 1),
            (codes::GET_CONSUMER_OFFSET_CODE, 1),
            (codes::PING_CODE, 1),
        ] {
            assert_eq!(stage.proxy.requests(code), times, "code {code}");
        }
        assert_eq!(counts.replies_delivered, counts.all_forwarded().values().sum::<u64>());
        assert_eq!(counts.all_forwarded().get(&0), None, "every operation is known");
    });
}

#[test]
fn a_lost_reply_is_to_an_append_that_was_made() {
    on_stage(|stage| async move {
        let client = stage.client_that_said("before").await;
        stage.proxy.lose_replies(1);
        let start = Instant::now();
        assert_disconnected(&client.send("made").await);
        assert!(start.elapsed() < AT_ONCE);
        assert_eq!(stage.direct.log().await, ["before", "made"]);
        assert_eq!(stage.proxy.counts().replies_lost, 1);
        drop(stage.client_that_said("after").await);
        assert_eq!(stage.direct.log().await, ["before", "made", "after"]);
    });
}

#[test]
fn the_first_append_of_a_partition_can_lose_its_reply_too() {
    // The server may not have made the partition yet, and then refuses until it has.
    on_stage(|stage| async move {
        let client = stage.client().await;
        stage.proxy.lose_replies(1);
        assert_disconnected(&client.send("made").await);
        assert_eq!(stage.direct.log().await, ["made"]);
    });
}

#[test]
fn a_lost_request_is_not_in_the_log() {
    on_stage(|stage| async move {
        let client = stage.client_that_said("before").await;
        stage.proxy.lose_requests(1);
        let start = Instant::now();
        assert_disconnected(&client.send("lost").await);
        assert!(start.elapsed() < AT_ONCE);
        drop(stage.client_that_said("after").await);
        assert_eq!(stage.direct.log().await, ["before", "after"]);
        assert_eq!(stage.proxy.counts().requests_lost, 1);
    });
}

#[test]
fn held_requests_are_appended_when_they_are_delivered() {
    on_stage(|stage| async move {
        let (one, two) = (stage.client_that_said("before").await, stage.client().await);
        stage.proxy.hold_requests(2);
        assert_disconnected(&two.send("late 1").await);
        assert_disconnected(&one.send("late 2").await);
        drop(stage.client_that_said("meanwhile").await);
        stage.proxy.disconnect();
        stage.proxy.settled().await;
        assert_eq!(stage.direct.log().await, ["before", "meanwhile"]);
        assert_eq!(stage.proxy.deliver_held().await, 2);
        let log = stage.direct.log().await;
        assert_eq!(log, ["before", "meanwhile", "late 1", "late 2"]);
        assert_eq!(stage.proxy.counts().held_appended, 2);
    });
}

#[test]
fn what_is_held_for_a_server_that_dies_is_lost() {
    in_time(async {
        // The others would miss theirs.
        let Some(server) = own_server().await else { return };
        let stage = Stage::before(&server).await;
        let client = stage.client_that_said("before").await;
        stage.proxy.hold_requests(1);
        assert_disconnected(&client.send("held").await);
        server.kill().await.expect("the server is killed");
        assert_eq!(stage.proxy.deliver_held().await, 0);
    });
}

#[test]
fn slow_appends_wait_until_they_need_not() {
    on_stage(|stage| async move {
        let client = stage.client_that_said("before").await;
        stage.proxy.slow_appends(FOR_EVER);
        let slow = async {
            let sent = client.send("slow").await;
            (sent, stage.proxy.counts().appends_slowed)
        };
        let end = async {
            stage.proxy.until(|counts| counts.appends_slowed == 1).await;
            let log = stage.direct.log().await;
            stage.proxy.slow_appends(Duration::ZERO);
            log
        };
        let ((sent, slowed), log) = tokio::join!(slow, end);
        assert_eq!((sent.expect("it is appended"), slowed), (1, 1));
        assert_eq!(log, ["before"]);
    });
}

#[test]
fn fetches_and_commits_fail_where_they_are_to() {
    on_stage(|stage| async move {
        let client = stage.client_that_said("there").await;
        stage.proxy.empty_fetches(1);
        assert_eq!(client.read().await.expect("it is empty"), [""; 0]);
        stage.proxy.fail_fetches(PartitionId(0), 1);
        assert_eq!(client.read_from(1).await.expect("it is another partition"), [""; 0]);
        let failed = client.read().await.expect_err("it is to fail");
        assert_eq!(failed.as_code(), CANNOT_READ_MESSAGE);
        assert_eq!(client.read().await.expect("it was to be once"), ["there"]);

        stage.proxy.fail_commits(PartitionId(0), 1);
        let failed = client.store(0, 0).await.expect_err("it is to fail");
        assert_eq!(failed.as_code(), CANNOT_OPEN_OFFSETS);
        assert_eq!(stage.direct.stored(0).await, None);
        client.store(0, 0).await.expect("it was to be once");
        assert_eq!(stage.direct.stored(0).await, Some(0));
        let counts = stage.proxy.counts();
        assert_eq!((counts.fetches_emptied, counts.fetches_failed, counts.commits_failed), (1, 1, 1));
        assert_eq!((counts.accepted, counts.cut), (1, 0), "all on one connection");
    });
}

#[test]
fn a_disconnect_is_noticed_at_once_and_lets_nobody_in() {
    on_stage(|stage| async move {
        let client = stage.client_that_said("before").await;
        stage.proxy.disconnect();
        let start = Instant::now();
        assert_disconnected(&client.send("never").await);
        assert!(stage.try_client().await.is_err());
        assert!(start.elapsed() < AT_ONCE);
        stage.proxy.reconnect();
        drop(stage.client_that_said("after").await);
        assert_eq!(stage.direct.log().await, ["before", "after"]);
    });
}

#[test]
fn what_was_forwarded_before_a_disconnect_is_in_the_log_once_it_has_settled() {
    on_stage(|stage| async move {
        drop(stage.client_that_said("before").await);
        for _ in 0..20 {
            let connected = futures::future::join_all((0..3).map(|_| stage.client())).await;
            let clients =
                connected.iter().map(|client| async { while client.send("again").await.is_ok() {} });
            let clients = futures::future::join_all(clients);
            let disconnect = async {
                let goal = stage.proxy.counts().appends_forwarded + 20;
                stage.proxy.until(|counts| counts.appends_forwarded >= goal).await;
                stage.proxy.disconnect();
                stage.proxy.settled().await;
                let log = stage.direct.log().await;
                assert_eq!(log.len() as u64, stage.proxy.counts().appends_forwarded);
            };
            tokio::join!(clients, disconnect);
            stage.proxy.reconnect();
        }
    });
}

#[test]
fn half_a_request_is_not_appended() {
    on_stage(|stage| async move {
        let client = stage.client_that_said("before").await;
        stage.proxy.apply(NetworkFault::CutAfterBytes(Direction::ToServer, 300));
        assert_disconnected(&client.send("torn").await);
        drop(stage.client_that_said("after").await);
        assert_eq!(stage.direct.log().await, ["before", "after"]);
        assert_eq!(stage.proxy.counts().cut_after_bytes, 1);
    });
}

#[test]
fn a_large_request_goes_through_whole() {
    on_stage(|stage| async move {
        let client = stage.client().await;
        let messages = (0..60).map(|_| IggyMessage::builder().payload(vec![b'x'; 1_000_000].into()).build());
        let mut messages: Vec<IggyMessage> = messages.collect::<Result<_, _>>().expect("it is a message");
        assert_eq!(client.send_all(&mut messages).await.expect("it is appended"), 0);
        let read = client.read().await.expect("it is read");
        assert!(read.len() == 60 && read.iter().all(|text| text.len() == 1_000_000));
    });
}
