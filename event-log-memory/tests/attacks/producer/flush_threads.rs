//! `flush` from many threads, while the buffer overflows, events expire and connections break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::producing::{Numbered, block_on, config, open};
use event_log_core::{EventLog as _, Overflow, ReconnectPolicy};

/// `flush`: "Waits until every ticket issued before the call is resolved."
fn round(overflow: Overflow, expiry: Option<Duration>) -> usize {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = config(|config| {
        (config.buffer_events, config.request_events, config.overflow, config.expiry) =
            (20, 3, overflow, expiry);
        config.reconnect = ReconnectPolicy::new(Duration::from_millis(1), Duration::from_millis(5));
    });
    let (log, faults, _broker) = runtime.block_on(open(config));
    let (done, flushes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (log, done, flushes) = (log.clone(), done.clone(), flushes.clone());
            std::thread::spawn(move || {
                while !done.load(Relaxed) {
                    let tickets: Vec<_> =
                        (0..7).filter_map(|number| log.submit(Numbered(number)).ok()).collect();
                    block_on(log.flush()).unwrap();
                    for ticket in tickets {
                        assert!(ticket.try_outcome().is_ok(), "it is pending after a flush");
                    }
                    flushes.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    let start = Instant::now();
    let mut nth = 0_u64;
    while start.elapsed() < Duration::from_secs(4) {
        nth += 1;
        match nth % 5 {
            0 => faults.disconnect(),
            1 => faults.reconnect(),
            2 => faults.lose_replies(1),
            3 => faults.slow_appends(Duration::from_millis(nth % 3)),
            _ => faults.lose_requests(1),
        }
        std::thread::sleep(Duration::from_micros(nth * 37 % 5_000));
    }
    faults.clear();
    done.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    flushes.load(Relaxed)
}

#[test]
fn a_flush_waits_for_every_ticket_while_the_oldest_are_dropped() {
    eprintln!("{}", round(Overflow::DropOldest, None));
}

#[test]
fn a_flush_waits_for_every_ticket_while_events_expire() {
    eprintln!("{}", round(Overflow::Reject, Some(Duration::from_millis(3))));
}
