//! Every deadline in every state of the connection: expiry, the deadline of a blocking append, that of `close`, and the
//! timeout of a poll. None is looked at in one state only.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::scripted_writer::{Asked, Numbered, Stage, confirm};
use event_log_core::engine::SendError;
use event_log_core::{
    AppendErrorKind, Error, EventLog as _, EventLogExt as _, Overflow, ProducerConfig, SubmitErrorKind,
    Ticket, limits,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
/// Soon after: the paused clock goes on when nothing else can.
const SOON: Duration = Duration::from_millis(50);

/// Where a producer can stand when a deadline comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Every request is answered.
    Connected,
    /// A request of the partition is under way and not answered.
    Slow,
    /// Every attempt to connect fails at once.
    Away,
    /// An attempt to connect neither succeeds nor fails.
    Connecting,
    /// There is a connection again, and reading back takes for ever.
    ReadingBack,
    /// As before, beside a request of another partition that is not answered.
    Losing,
}

const LINKS: [Link; 6] =
    [Link::Connected, Link::Slow, Link::Away, Link::Connecting, Link::ReadingBack, Link::Losing];

/// A producer in that state, and what keeps it there.
struct Scene {
    stage: Stage,
    /// Of the event whose request made the state, if it took one.
    first: Option<Ticket<Numbered>>,
    held: Vec<Asked>,
}

impl Scene {
    async fn set(link: Link, mut config: ProducerConfig) -> Self {
        config.reconnect.initial = Duration::from_millis(1);
        let connections = match link {
            Link::Away => 0,
            Link::Losing => 2,
            _ => 1,
        };
        let mut stage = Stage::with(connections, config).await;
        let (mut first, mut held) = (None, Vec::new());
        if !matches!(link, Link::Connected | Link::Away) {
            first = Some(stage.submit(0, 0));
            let asked = stage.next().await;
            match link {
                Link::Slow => held.push(asked),
                Link::Connecting => {
                    stage.scripted.lets_in.forget_permits(Semaphore::MAX_PERMITS);
                    lose(asked);
                }
                _ => {
                    if link == Link::Losing {
                        drop(stage.submit(1, 0));
                        held.push(stage.next().await);
                        // The next connection is the only one, and taken by reading back.
                        stage.scripted.lets_in.forget_permits(Semaphore::MAX_PERMITS);
                        stage.scripted.lets_in.add_permits(1);
                    }
                    stage.scripted.reads.forget_permits(Semaphore::MAX_PERMITS);
                    // It has arrived, so that there is something to read back.
                    stage.scripted.append(0, &asked.messages);
                    lose(asked);
                }
            }
        }
        let is_connected = matches!(link, Link::Connected | Link::Slow);
        stage.log.state().wait_for(|state| state.is_connected() == is_connected).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let is_reading = !stage.scripted.state.lock().read_back.is_empty();
        assert_eq!(is_reading, matches!(link, Link::ReadingBack | Link::Losing), "{link:?}");
        Self { stage, first, held }
    }

    /// Answers what is asked, if that is how the log is.
    async fn answer(&mut self, link: Link) {
        if link == Link::Connected {
            self.stage.asked_by_now().await.into_iter().for_each(confirm);
        }
    }
}

/// The connection is lost, and whether the request took effect is unknown.
fn lose(asked: Asked) {
    let lost = SendError::Lost { error: Error::Unavailable(None), may_have_taken_effect: true };
    asked.answer.send(Err(lost)).expect("the log waits for it");
}

const EXPIRY: Duration = Duration::from_millis(500);

#[tokio::test(start_paused = true)]
async fn an_event_expires_in_every_state() {
    for link in LINKS {
        let mut config = ProducerConfig::default();
        // Shorter than what is waited for the others when a connection is lost.
        config.expiry = Some(EXPIRY);
        let mut scene = Scene::set(link, config).await;
        let start = Instant::now();
        let ticket = scene.stage.submit(0, 1);
        scene.answer(link).await;
        let outcome = tokio::time::timeout(60 * SECOND, ticket).await;
        match outcome.unwrap_or_else(|_| panic!("{link:?}: it never comes back")) {
            Ok(_) => assert_eq!(link, Link::Connected),
            Err(error) => {
                assert!(matches!(error.kind(), AppendErrorKind::Expired(_)), "{link:?}: {error:?}");
                assert_eq!(error.into_event().number, 1, "{link:?}: its event comes back");
                assert_ne!(link, Link::Connected);
                assert!(start.elapsed() >= EXPIRY, "{link:?}: after {:?}", start.elapsed());
                assert!(start.elapsed() <= EXPIRY + SOON, "{link:?}: after {:?}", start.elapsed());
            }
        }
        // What was sent ends as its request does, or as unknown, once it is not under way any more.
        let first = scene.first.take().filter(|_| !matches!(link, Link::Slow));
        if let Some(first) = first {
            let outcome = tokio::time::timeout(SECOND, first).await;
            let error =
                outcome.unwrap_or_else(|_| panic!("{link:?}: the first never comes back")).unwrap_err();
            assert!(matches!(error.kind(), AppendErrorKind::Unknown(_)), "{link:?}: {error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_that_blocks_gives_up_in_every_state() {
    for link in LINKS {
        let mut config = ProducerConfig::default();
        (config.buffer_events, config.overflow) = (1, Overflow::Block { deadline: SECOND });
        let mut scene = Scene::set(link, config).await;
        // It takes what space there is.
        drop(scene.stage.log.submit(Numbered { partition: 0, number: 1 }));
        let log = Arc::new(scene.stage.log);
        let start = Instant::now();
        let append = {
            let log = Arc::clone(&log);
            tokio::spawn(async move { log.append(Numbered { partition: 0, number: 2 }).await })
        };
        if link == Link::Connected {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for _ in 0..2 {
                confirm(scene.stage.asked.recv().await.unwrap());
            }
        }
        let appended = tokio::time::timeout(60 * SECOND, append).await;
        let appended = appended.unwrap_or_else(|_| panic!("{link:?}: it blocks for ever")).unwrap();
        if link == Link::Connected {
            assert!(appended.unwrap().acked().await.is_ok());
            assert_eq!(start.elapsed(), Duration::from_millis(500), "as soon as there is space");
            continue;
        }
        let error = appended.unwrap_err();
        let is_full = matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Full));
        assert!(is_full, "{link:?}: {error:?}");
        assert_eq!(error.into_event().number, 2, "{link:?}");
        assert!(start.elapsed() >= SECOND, "{link:?}: after {:?}", start.elapsed());
        assert!(start.elapsed() <= SECOND + SOON, "{link:?}: after {:?}", start.elapsed());
        drop(scene.held);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_in_every_state() {
    for link in LINKS {
        let mut scene = Scene::set(link, ProducerConfig::default()).await;
        let tickets: Vec<_> = (1..=3).map(|number| scene.stage.submit(0, number)).collect();
        let log = scene.stage.log.clone();
        let start = Instant::now();
        let close = tokio::spawn(async move { log.close(SECOND).await });
        scene.answer(link).await;
        let closed = tokio::time::timeout(60 * SECOND, close).await;
        let closed = closed.unwrap_or_else(|_| panic!("{link:?}: it never ends")).unwrap();
        assert!(start.elapsed() <= SECOND + SOON, "{link:?}: after {:?}", start.elapsed());
        assert_eq!(closed.is_ok(), link == Link::Connected, "{link:?}: {closed:?}");
        let (mut acknowledged, mut back) = (0, 0);
        for ticket in tickets.into_iter().chain(scene.first.take()) {
            let outcome = tokio::time::timeout(SECOND, ticket).await;
            match outcome.unwrap_or_else(|_| panic!("{link:?}: a ticket stays pending")) {
                Ok(_) => acknowledged += 1,
                Err(_) => back += 1,
            }
        }
        let expected = match link {
            Link::Connected => (3, 0),
            Link::Away => (0, 3),
            _ => (0, 4),
        };
        assert_eq!((acknowledged, back), expected, "{link:?}");
    }
}

/// Where a consumer can stand when a poll's timeout comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Idle,
    /// A fetch takes for ever, and so do those below.
    Fetching,
    Placing,
    Asking,
    Joining,
    /// No attempt to join succeeds.
    Away,
}

#[tokio::test(start_paused = true)]
async fn a_poll_ends_in_every_state() {
    const FOR_EVER: u64 = 1_000_000_000;
    for reader in
        [Reader::Idle, Reader::Fetching, Reader::Placing, Reader::Asking, Reader::Joining, Reader::Away]
    {
        for timeout in [Duration::ZERO, Duration::from_millis(1), SECOND, 10 * SECOND] {
            let server = Arc::new(crate::scripted::Server::default());
            let log = server.with_events(1).await;
            let mut consumer = log.consumer("g").await.unwrap();
            let mut seen = 0;
            while seen < 2 {
                seen += consumer.poll(100, SECOND).await.unwrap().len();
            }
            match reader {
                Reader::Idle => {}
                Reader::Fetching => {
                    server.fetch_takes.store(FOR_EVER, Relaxed);
                    log.append_acked(crate::scripted::event(0, 1)).await.unwrap();
                }
                Reader::Placing => {
                    server.committed_takes.store(FOR_EVER, Relaxed);
                    server.epoch_of_1.store(1, Relaxed);
                }
                Reader::Asking => server.assignments_take.store(FOR_EVER, Relaxed),
                Reader::Joining | Reader::Away => {
                    server.down.store(true, Relaxed);
                    let polled = consumer.poll(1, Duration::from_millis(10)).await;
                    assert!(polled.is_err(), "{polled:?}");
                    if reader == Reader::Joining {
                        server.join_takes.store(FOR_EVER, Relaxed);
                    }
                }
            }
            let start = Instant::now();
            let polled = tokio::time::timeout(3_600 * SECOND, consumer.poll(100, timeout)).await;
            let polled = polled.unwrap_or_else(|_| panic!("{reader:?} {timeout:?}: it never ends"));
            let took = start.elapsed();
            // A poll that has told of a revocation is right to end early.
            let is_told = polled.as_ref().is_ok_and(|batch| !batch.notices.is_empty());
            let is_at_once = matches!(reader, Reader::Away);
            assert!(is_told || is_at_once || took >= timeout, "{reader:?} {timeout:?}: after {took:?}");
            let most = timeout + limits::POLL_OVERTIME + SOON;
            assert!(took <= most, "{reader:?} {timeout:?}: after {took:?}, {polled:?}");
            assert_eq!(
                polled.is_ok(),
                is_told || reader == Reader::Idle,
                "{reader:?} {timeout:?}: an empty batch says that there is nothing, {polled:?}"
            );
        }
    }
}
