//! Synchronous code at odd moments of a thread. A process of its own: once a test has paused its clock, tokio asks for the time
//! through a thread-local, which is gone by then.
//!
//! `submit`: "Accepts an event without ever blocking or awaiting: for synchronous code"; l9: "a log works ... from threads
//! without a runtime".

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[allow(dead_code, reason = "it uses a part")]
#[path = "attacks/producing.rs"]
mod producing;

use std::cell::RefCell;
use std::time::Duration;

use event_log_core::EventLog as _;
use event_log_memory::MemoryLog;
use producing::{Numbered, config, cut, numbers, open};

/// What a thread has gathered, and submits when it ends.
struct Gathered(MemoryLog<Numbered>, u64);

impl Drop for Gathered {
    fn drop(&mut self) {
        drop(self.0.submit(Numbered(self.1)));
    }
}

thread_local! {
    static GATHERED: RefCell<Option<Gathered>> = const { RefCell::new(None) };
}

fn run(away: bool, submits_before: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (log, faults, broker) = runtime.block_on(open(config(|_| ())));
    if away {
        runtime.block_on(cut(&log, &faults));
    }
    let of_thread = log.clone();
    let thread = std::thread::spawn(move || {
        GATHERED.set(Some(Gathered(of_thread.clone(), 1)));
        if submits_before {
            drop(of_thread.submit(Numbered(0)).unwrap());
        }
    });
    thread.join().unwrap();
    faults.reconnect();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), log.flush()).await.unwrap().unwrap();
    });
    let expected: &[u64] = if submits_before { &[0, 1] } else { &[1] };
    assert_eq!(numbers(&broker), expected);
}

#[test]
fn l9_a_thread_that_ends_submits_what_it_has_gathered() {
    run(false, false);
}

#[test]
fn l9_a_thread_that_ends_submits_what_it_has_gathered_after_it_has_submitted_before() {
    run(false, true);
}

#[test]
fn l9_a_thread_that_ends_submits_what_it_has_gathered_to_a_log_that_is_away() {
    run(true, true);
}

/// While a thread unwinds.
#[test]
fn l7_a_thread_that_panics_submits_what_it_has_gathered() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (log, _faults, broker) = runtime.block_on(open(config(|_| ())));
    let of_thread = log.clone();
    let thread = std::thread::spawn(move || {
        let _gathered = Gathered(of_thread, 1);
        panic!("a fault of the thread");
    });
    assert!(thread.join().is_err());
    assert_eq!(numbers(&broker), [1]);
}

/// Drops the last handle, and a ticket, when the thread ends.
struct Last(Option<MemoryLog<Numbered>>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(log) = self.0.take() {
            let ticket = log.state();
            drop(log);
            drop(ticket);
        }
    }
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

#[test]
fn l3_a_last_handle_that_is_dropped_when_its_thread_ends_gives_up_what_is_queued() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (log, faults, _broker) = runtime.block_on(open(config(|_| ())));
    runtime.block_on(cut(&log, &faults));
    let ticket = log.submit(Numbered(0)).unwrap();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || {
        LAST.set(Some(Last(None)));
        // The thread has used a runtime, and everything else, before.
        handle.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        tracing::info!("a thread");
        drop(log.submit(Numbered(1)).unwrap());
        LAST.with_borrow_mut(|last| last.as_mut().unwrap().0 = Some(log));
    })
    .join()
    .unwrap();
    let outcome =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), ticket).await.unwrap() });
    assert!(outcome.is_err());
}

/// The last handle is owned by a task that the runtime drops as it shuts down.
#[test]
fn l3_a_last_handle_that_is_dropped_by_the_runtime_gives_up_what_is_queued() {
    for threads in [0, 2] {
        let runtime = if threads == 0 {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
        } else {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
        };
        let (log, faults, _broker) = runtime.block_on(open(config(|_| ())));
        runtime.block_on(cut(&log, &faults));
        let ticket = log.submit(Numbered(0)).unwrap();
        runtime.spawn(async move {
            let waits = log.append(Numbered(1)).await;
            std::future::pending::<()>().await;
            drop((waits, log));
        });
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
        drop(runtime);
        assert!(ticket.try_outcome().expect("it is resolved").is_err());
    }
}
