//! Random walks of a producer over hours: late answers, several connections, refusals, expiry, retention, a log that begins
//! again, requests that arrive late, partitions that cannot be read for a while, answers of few records. What is expected is
//! written from CONTRACT.md alone.
//!
//! `SEED` is the first seed, and `SEEDS` how many there are.

mod calls;
mod judge;
mod server;

use std::sync::Arc;
use std::time::Duration;

use event_log_core::engine::LogBuilder;
use event_log_core::{EventLog as _, JsonCodec, LogState, Overflow, ProducerConfig, ReconnectPolicy};
use tokio::time::{sleep, timeout};

use self::calls::Calls;
use self::judge::judge;
use self::server::{Scripted, Server, Temper};
use crate::chance::Chance;

const DAY: Duration = Duration::from_secs(86_400);

fn config(chance: &mut Chance) -> ProducerConfig {
    let mut config = ProducerConfig::default();
    config.buffer_events = chance.of(&[1, 4, 20, 10_000]);
    config.request_events = chance.of(&[1, 3, 1_024]);
    let block = Overflow::Block { deadline: Duration::from_millis(chance.of(&[0, 500, 20_000])) };
    config.overflow = chance.of(&[Overflow::DropOldest, Overflow::Reject, block]);
    config.expiry = chance.of(&[None, None, Some(Duration::from_secs(8)), Some(Duration::from_millis(400))]);
    config.reconnect =
        ReconnectPolicy::new(Duration::from_millis(chance.of(&[5, 1_000])), Duration::from_secs(5));
    if chance.next(3) == 0 {
        config.max_event_bytes = 100;
        config.buffer_bytes = chance.of(&[100, 150, 400]);
        config.request_bytes = chance.of(&[1, 70, 1_000]);
        config.reconnect.jitter_percent = chance.of(&[0, 100]);
        config.expiry = chance.of(&[config.expiry, config.expiry, Some(Duration::ZERO), Some(Duration::MAX)]);
    }
    config
}

async fn run(seed: u64) {
    let mut chance = Chance(seed);
    let server = Arc::new(Server::new(&mut chance));
    let temper = server.temper;
    let config = config(&mut chance);
    let (expiry, overflow) = (config.expiry, config.overflow);
    let builder = LogBuilder::new(Arc::new(JsonCodec)).config(config).seed(seed);
    let log = builder.open(Arc::new(Scripted(Arc::clone(&server)))).await.unwrap();
    let mut calls = Calls::new(seed, log.clone());
    let mut state = log.state().current();
    for _ in 0..chance.of(&[20, 100, 400]) {
        if chance.next(20) < 13 {
            calls.step(&mut chance).await;
        } else {
            server.step(&mut chance).await;
        }
        let now = log.state().current();
        grows(&state, &now);
        state = now;
    }
    let is_gentle = chance.next(2) == 0;
    if is_gentle {
        server.calm();
        calls.flush(DAY).await.expect("the flush ends");
    }
    let deadline = Duration::from_millis(chance.of(&[0, 10, 5_000, 60_000]));
    let left = if chance.next(6) == 0 {
        calls.give_up();
        let mut state = log.state();
        drop(log);
        timeout(DAY, state.wait_for(LogState::is_closed)).await.expect("it ends");
        None
    } else {
        let closed = timeout(DAY, log.close(deadline)).await.expect("closing ends");
        assert_eq!(log.state().current().buffered, 0);
        Some(closed.err())
    };
    let Temper { trims, refuses, begins_again, breaks, .. } = temper;
    // Where nothing may keep an event from the log, or from what `close` returns.
    let is_steady = expiry.is_none() && !refuses && !trims && !begins_again && !breaks;
    let is_told = is_steady && left.is_some() && overflow != Overflow::DropOldest;
    let ended = calls.end(left).await;
    // What was given up may still arrive.
    sleep(DAY).await;
    judge(&ended, &server, is_told, is_gentle && is_steady);
}

fn grows(before: &LogState, after: &LogState) {
    assert!(before.dropped <= after.dropped && before.reconnects <= after.reconnects);
    let (before, after) = (before.recovered, after.recovered);
    assert!(before.found <= after.found && before.sent_again <= after.sent_again);
    assert!(before.unknown <= after.unknown);
}

#[test]
fn every_promise_to_producers_holds_on_a_random_walk() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (first, count) = (number("SEED", 0), number("SEEDS", 250));
    let mut failed = Vec::new();
    for seed in first..first + count {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed))));
        if ran.is_err() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "{} seeds failed: {:?}", failed.len(), &failed[..failed.len().min(20)]);
}
