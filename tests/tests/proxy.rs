//! The fault proxy does what it says, against a server that only writes down what it gets.

mod fake_iggy;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log_core::PartitionId;
use event_log_tests::proxy::wire::{CANNOT_OPEN_OFFSETS, CANNOT_READ_MESSAGE, Request};
use event_log_tests::proxy::{Direction, NetworkFault, Proxy};
use fake_iggy::{FakeClient, FakeServer, Mood, append, ping, poll, store};
use iggy_binary_protocol::{HEADER_SIZE, codes};

/// A test that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test: what waits for so long is not meant to get there by itself.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// A code of a refusal: `TransientNotAccepted`.
const REFUSED: u32 = 58;

const NONE: [u64; 0] = [];
const P0: PartitionId = PartitionId(0);
const P1: PartitionId = PartitionId(1);

struct Stage {
    server: Arc<FakeServer>,
    proxy: Proxy,
}

impl Stage {
    async fn client(&self) -> FakeClient {
        FakeClient::connect(self.proxy.address()).await
    }

    /// A client that is known to be through to the server.
    async fn connected(&self) -> FakeClient {
        let mut client = self.client().await;
        client.call(&ping()).await.expect("the way is clear");
        client
    }

    /// Whether a new client gets an answer.
    async fn lets_through(&self) -> bool {
        self.client().await.call(&ping()).await.is_ok()
    }
}

fn on_stage<F: Future<Output = ()>>(test: impl FnOnce(Stage) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("there is a runtime").block_on(async {
        let server = FakeServer::start().await;
        let proxy = Proxy::start(server.address).await.expect("there is a port");
        tokio::time::timeout(PATIENCE, test(Stage { server, proxy })).await.expect("the test ends");
    });
}

#[test]
fn everything_goes_through_and_is_counted() {
    on_stage(|stage| async move {
        let mut client = stage.client().await;
        for number in 0..3 {
            assert_eq!(client.call(&append(number)).await.expect("a reply").1, &b"messages"[..]);
            assert_eq!(stage.proxy.requests(codes::SEND_MESSAGES_CODE), number + 1);
            assert_eq!(stage.proxy.counts().replies_delivered, number + 1);
        }
        client.call(&poll(P0)).await.expect("a reply");
        client.call(&store(P0, 4)).await.expect("a reply");
        let counts = stage.proxy.counts();
        assert_eq!(counts.all_forwarded().values().sum::<u64>(), 5);
        assert_eq!((counts.accepted, counts.cut, counts.appends_forwarded), (1, 0, 3));
        assert_eq!(counts.received(codes::STORE_CONSUMER_OFFSET_CODE), 1);
        drop(client);
        assert_eq!(stage.server.ended(1).await, 0, "the server learns that the client has hung up");
    });
}

#[test]
fn the_largest_frame_goes_through_and_a_larger_one_ends_the_connection() {
    on_stage(|stage| async move {
        let mut client = stage.client().await;
        let largest = vec![7; 64 * 1024 * 1024 - HEADER_SIZE];
        let reply = client.call(&Request::new(codes::SEND_MESSAGES_CODE, 1, &largest)).await;
        assert!(reply.expect("a reply").1 == largest);
        let larger = vec![7; 64 * 1024 * 1024];
        client.call(&Request::new(codes::SEND_MESSAGES_CODE, 2, &larger)).await.expect_err("it is too large");
        assert_eq!(stage.server.appended(), [1]);
    });
}

#[test]
fn a_disconnect_cuts_everybody_off_and_lets_nobody_in() {
    on_stage(|stage| async move {
        let mut client = stage.connected().await;
        stage.proxy.disconnect();
        client.call(&append(1)).await.expect_err("it is cut");
        assert!(!stage.lets_through().await);
        assert_eq!(stage.server.ended(1).await, 0);
        stage.proxy.reconnect();
        client.call(&append(2)).await.expect_err("a cut connection stays cut");
        assert!(stage.lets_through().await);
        let counts = stage.proxy.counts();
        assert_eq!((counts.accepted, counts.refused, counts.cut), (2, 1, 1));
        assert_eq!(stage.server.appended(), NONE);
    });
}

#[test]
fn nothing_is_forwarded_once_a_disconnect_has_returned() {
    on_stage(|stage| async move {
        for round in 0..50 {
            let clients = (0..4).map(|_| async {
                let mut client = stage.client().await;
                for number in 0.. {
                    if client.call(&append(number)).await.is_err() {
                        return number;
                    }
                }
                0
            });
            let clients = futures::future::join_all(clients);
            let disconnect = async {
                stage.proxy.until(|counts| counts.appends_forwarded > (round + 1) * 50).await;
                stage.proxy.disconnect();
                let forwarded = stage.proxy.counts().appends_forwarded;
                stage.proxy.settled().await;
                assert_eq!(stage.proxy.counts().appends_forwarded, forwarded);
                forwarded
            };
            let (_, forwarded) = tokio::join!(clients, disconnect);
            assert_eq!(stage.server.appended().len() as u64, forwarded);
            stage.proxy.reconnect();
        }
    });
}

#[test]
fn settled_waits_for_what_the_server_is_still_at() {
    on_stage(|stage| async move {
        let mut client = stage.connected().await;
        stage.server.mood.send_replace(Mood::Thinks);
        client.send(&append(1)).await;
        stage.server.arrived(2).await;
        stage.proxy.disconnect();
        client.reply().await.expect_err("the client is cut off at once");
        let mut settled = std::pin::pin!(stage.proxy.settled());
        assert!(futures::poll!(&mut settled).is_pending());
        stage.server.mood.send_replace(Mood::Answers);
        settled.await;
        assert_eq!(stage.server.ended(1).await, 0, "then the server's side is closed too");
    });
}

#[test]
fn a_lost_reply_is_to_an_append_that_was_made() {
    on_stage(|stage| async move {
        let mut client = stage.connected().await;
        stage.proxy.lose_replies(1);
        client.call(&ping()).await.expect("it is for appends");
        client.call(&append(1)).await.expect_err("the reply is lost");
        assert_eq!(stage.server.appended(), [1]);
        let counts = stage.proxy.counts();
        assert_eq!((counts.replies_lost, counts.appends_forwarded, counts.cut), (1, 1, 1));
        stage.client().await.call(&append(2)).await.expect("it was to be one");
    });
}

#[test]
fn a_refused_append_keeps_its_reply_and_the_fault_waits() {
    on_stage(|stage| async move {
        let mut client = stage.connected().await;
        stage.proxy.lose_replies(1);
        stage.server.mood.send_replace(Mood::Refuses(REFUSED));
        assert_eq!(client.call(&append(1)).await.expect("a refusal").0, REFUSED);
        assert_eq!(stage.proxy.counts().replies_lost, 0);
        stage.server.mood.send_replace(Mood::Answers);
        client.call(&append(1)).await.expect_err("this one is confirmed, and lost");
        assert_eq!(stage.proxy.counts().replies_lost, 1);
    });
}

#[test]
fn a_lost_request_never_arrives() {
    on_stage(|stage| async move {
        stage.proxy.lose_requests(2);
        for number in 0..2 {
            stage.client().await.call(&append(number)).await.expect_err("it is lost");
        }
        stage.client().await.call(&append(2)).await.expect("it was to be two");
        assert_eq!(stage.server.appended(), [2]);
        assert_eq!(stage.proxy.counts().requests_lost, 2);
    });
}

#[test]
fn held_requests_arrive_late_in_order_and_on_their_own_connections() {
    on_stage(|stage| async move {
        let (mut first, mut second) = (stage.connected().await, stage.connected().await);
        stage.proxy.hold_requests(2);
        second.call(&append(1)).await.expect_err("its connection is cut");
        first.call(&append(2)).await.expect_err("its connection is cut");
        // What concerns connections does not concern what is under way.
        stage.proxy.interrupt();
        stage.client().await.call(&append(3)).await.expect("it was to be two");
        stage.proxy.settled().await;
        assert_eq!(stage.server.appended(), [3]);

        assert_eq!(stage.proxy.deliver_held().await, 2);
        let late: Vec<_> = stage.server.arrivals().into_iter().skip(3).collect();
        let code = codes::SEND_MESSAGES_CODE;
        assert_eq!(late, [(1, code, 1), (0, code, 2)]);
        assert_eq!(stage.server.ended(3).await, 0, "their connections are over then");
        assert_eq!(stage.proxy.deliver_held().await, 0);
        let counts = stage.proxy.counts();
        assert_eq!((counts.requests_held, counts.held_appended, counts.appends_forwarded), (2, 2, 3));
    });
}

#[test]
fn a_held_request_that_is_refused_is_not_appended() {
    on_stage(|stage| async move {
        stage.proxy.hold_requests(1);
        stage.client().await.call(&append(1)).await.expect_err("its connection is cut");
        stage.server.mood.send_replace(Mood::Refuses(REFUSED));
        assert_eq!(stage.proxy.deliver_held().await, 0);
        assert_eq!(stage.proxy.counts().held_appended, 0);
    });
}

#[test]
fn slow_appends_wait_until_they_need_not() {
    on_stage(|stage| async move {
        stage.proxy.slow_appends(FOR_EVER);
        let mut client = stage.client().await;
        client.call(&ping()).await.expect("it is for appends");
        client.send(&append(1)).await;
        stage.proxy.until(|counts| counts.appends_slowed == 1).await;
        assert_eq!(stage.server.appended(), NONE);
        // A fault that comes during the wait is met.
        stage.proxy.lose_replies(1);
        stage.proxy.slow_appends(Duration::ZERO);
        client.reply().await.expect_err("the reply is lost");
        assert_eq!(stage.server.appended(), [1]);

        stage.proxy.slow_appends(Duration::from_millis(50));
        let start = Instant::now();
        stage.client().await.call(&append(2)).await.expect("a reply");
        assert!(start.elapsed() >= Duration::from_millis(50));
    });
}

#[test]
fn a_slow_append_can_be_cut_off() {
    on_stage(|stage| async move {
        stage.proxy.slow_appends(FOR_EVER);
        let mut client = stage.client().await;
        client.send(&append(1)).await;
        stage.proxy.until(|counts| counts.appends_slowed == 1).await;
        stage.proxy.disconnect();
        client.reply().await.expect_err("it is cut");
        stage.proxy.slow_appends(Duration::ZERO);
        stage.server.ended(1).await;
        assert_eq!(stage.server.appended(), NONE);
    });
}

#[test]
fn fetches_and_commits_fail_where_they_are_to() {
    on_stage(|stage| async move {
        let mut client = stage.connected().await;
        stage.proxy.empty_fetches(1);
        stage.proxy.fail_fetches(P1, 1);
        stage.proxy.fail_commits(P1, 1);
        let (status, body) = client.call(&poll(P1)).await.expect("a reply");
        assert_eq!((status, body.len()), (CANNOT_READ_MESSAGE, 0));
        let (status, body) = client.call(&poll(P1)).await.expect("a reply");
        let nothing = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!((status, &body[..]), (0, &nothing[..]));
        let (status, _) = client.call(&store(P0, 1)).await.expect("a reply");
        assert_eq!(status, 0);
        let (status, body) = client.call(&store(P1, 2)).await.expect("a reply");
        assert_eq!((status, body.len()), (CANNOT_OPEN_OFFSETS, 0));
        for request in [poll(P1), store(P1, 3)] {
            let (status, body) = client.call(&request).await.expect("a reply");
            assert_eq!((status, &body[..]), (0, &request.frame()[HEADER_SIZE..]), "it is the server's own");
        }
        let counts = stage.proxy.counts();
        assert_eq!((counts.fetches_emptied, counts.fetches_failed, counts.commits_failed), (1, 1, 1));
        assert_eq!(counts.received(codes::POLL_MESSAGES_CODE), 3);
        assert_eq!(counts.forwarded(codes::POLL_MESSAGES_CODE), 1);
        assert_eq!(counts.forwarded(codes::STORE_CONSUMER_OFFSET_CODE), 2);
    });
}

#[test]
fn the_network_is_slow() {
    on_stage(|stage| async move {
        let mut client = stage.connected().await;
        stage.proxy.apply(NetworkFault::Delay(Duration::from_millis(20)));
        let start = Instant::now();
        client.call(&ping()).await.expect("a reply");
        assert!(start.elapsed() >= Duration::from_millis(40), "both ways");
        assert_eq!(stage.proxy.counts().frames_delayed, 2);

        stage.proxy.heal();
        stage.proxy.apply(NetworkFault::Throttle(100_000));
        let start = Instant::now();
        let body = vec![1; 10_000];
        client.call(&Request::new(codes::SEND_MESSAGES_CODE, 1, &body)).await.expect("a reply");
        assert!(start.elapsed() >= Duration::from_millis(200), "both ways");
        assert_eq!(stage.proxy.counts().frames_throttled, 2);

        // Whoever waits for a slow network goes on once it is not.
        stage.proxy.apply(NetworkFault::Delay(FOR_EVER));
        client.send(&ping()).await;
        stage.proxy.until(|counts| counts.frames_delayed == 3).await;
        stage.proxy.heal();
        client.reply().await.expect("a reply");
    });
}

#[test]
fn a_black_hole_swallows_one_way() {
    on_stage(|stage| async move {
        let mut client = stage.connected().await;
        stage.proxy.apply(NetworkFault::BlackHole(Direction::ToServer));
        client.send(&append(1)).await;
        stage.proxy.until(|counts| counts.frames_swallowed == 1).await;
        stage.proxy.heal();
        client.call(&append(2)).await.expect("the connection is still up");
        stage.proxy.apply(NetworkFault::BlackHole(Direction::ToClient));
        client.send(&append(3)).await;
        stage.proxy.until(|counts| counts.frames_swallowed == 2).await;
        stage.proxy.heal();
        client.call(&append(4)).await.expect("the connection is still up");
        assert_eq!(stage.server.appended(), [2, 3, 4]);
    });
}

#[test]
fn a_half_open_connection_stands_still() {
    on_stage(|stage| async move {
        let mut client = stage.connected().await;
        stage.proxy.apply(NetworkFault::HalfOpen);
        client.send(&append(1)).await;
        let mut reply = std::pin::pin!(client.reply());
        stage.proxy.until(|counts| counts.reads_stopped > 0).await;
        assert!(futures::poll!(&mut reply).is_pending());
        assert_eq!(stage.server.appended(), NONE);
        stage.proxy.heal();
        reply.await.expect("what was written arrives");
        assert_eq!(stage.server.appended(), [1]);
    });
}

#[test]
fn a_connection_is_cut_in_the_middle_of_a_frame() {
    on_stage(|stage| async move {
        let mut client = stage.connected().await;
        let half = append(1).frame().len() as u64 / 2;
        stage.proxy.apply(NetworkFault::CutAfterBytes(Direction::ToServer, half));
        client.call(&append(1)).await.expect_err("it is cut");
        assert_eq!(stage.server.ended(1).await, 1, "the server has seen the half of it");
        assert_eq!(stage.server.appended(), NONE);

        let mut client = stage.connected().await;
        stage.proxy.apply(NetworkFault::CutAfterBytes(Direction::ToClient, half));
        client.call(&append(2)).await.expect_err("it is cut");
        assert_eq!(stage.server.appended(), [2]);
        let counts = stage.proxy.counts();
        assert_eq!((counts.cut_after_bytes, counts.cut), (2, 2));
        assert!(stage.lets_through().await, "it was to be once");
    });
}

#[test]
fn the_server_comes_back_somewhere_else() {
    on_stage(|stage| async move {
        let other = FakeServer::start().await;
        let mut client = stage.connected().await;
        stage.proxy.set_target(other.address);
        stage.client().await.call(&append(1)).await.expect("a reply");
        client.call(&append(2)).await.expect("this one stays where it is");
        assert_eq!((other.appended(), stage.server.appended()), (vec![1], vec![2]));

        // A port that nobody listens on any more.
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        stage.proxy.set_target(gone.local_addr().expect("it listens"));
        drop(gone);
        assert!(!stage.lets_through().await);
        assert_eq!(stage.proxy.counts().unreachable, 1);
    });
}

#[test]
fn it_ends_with_its_last_handle() {
    on_stage(|stage| async move {
        let mut client = stage.connected().await;
        let Stage { proxy, server } = stage;
        let address = proxy.address();
        drop(proxy.clone());
        client.call(&ping()).await.expect("there is still a handle");
        drop(proxy);
        client.reply().await.expect_err("it is over");
        assert_eq!(server.ended(1).await, 0);
        // The port is closed a moment later; until then clients are turned away.
        while let Ok(mut socket) = tokio::net::TcpStream::connect(address).await {
            let read = tokio::io::AsyncReadExt::read(&mut socket, &mut [0]).await;
            assert!(!matches!(read, Ok(1..)));
        }
    });
}
