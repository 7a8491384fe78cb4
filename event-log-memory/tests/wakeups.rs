//! Real threads, real time: an append wakes a waiting consumer, always. A wake-up that got lost between
//! looking and waiting would show as a poll that sleeps to its timeout.

use std::time::{Duration, Instant};

use event_log_core::{EventConsumer, EventLog, EventLogExt, RawCodec, RawEvent};

/// As long as it takes to be sure, on a busy machine.
const LOST: Duration = Duration::from_secs(20);

fn ball(number: u32) -> RawEvent {
    RawEvent::new(format!("key-{}", number % 5), number.to_be_bytes().to_vec())
}

/// One ball at a time between two logs: each append finds a consumer that is just about to wait, or waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_between_looking_and_waiting() {
    const ROUNDS: u32 = 20_000;
    let open = || event_log_memory::builder::<RawEvent>().partitions(3).codec(RawCodec).open();
    let (there, back) = (open().await.unwrap(), open().await.unwrap());
    let mut receiver = there.consumer("players").await.unwrap();
    let echo = {
        let back = back.clone();
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                let start = Instant::now();
                let batch = receiver.poll(1, 2 * LOST).await.unwrap();
                assert!(start.elapsed() < LOST, "a wake-up was lost");
                back.append_all(&mut batch.into_events()).await.unwrap();
            }
        })
    };
    let mut returns = back.consumer("players").await.unwrap();
    for number in 0..ROUNDS {
        drop(there.append(ball(number)).await.unwrap());
        let start = Instant::now();
        let batch = returns.poll(1, 2 * LOST).await.unwrap();
        assert!(start.elapsed() < LOST, "a wake-up was lost");
        let numbers: Vec<_> = batch.into_events().map(|event| event.payload).collect();
        assert_eq!(numbers, [number.to_be_bytes().as_slice()]);
    }
    echo.await.unwrap();
}

/// Several threads append through several handles, several consumers read along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_handles_and_consumers_lose_nothing() {
    const THREADS: u32 = 4;
    const EACH: u32 = 5_000;
    let broker = event_log_memory::MemoryBroker::new();
    let open = || event_log_memory::builder::<RawEvent>().broker(&broker).codec(RawCodec).open();
    let mut consumers = Vec::new();
    for number in 0..3 {
        let log = open().await.unwrap();
        consumers.push(tokio::spawn(async move {
            let mut consumer = log.consumer(&format!("group-{number}")).await.unwrap();
            let mut seen = vec![Vec::new(); THREADS as usize];
            while seen.iter().map(Vec::len).sum::<usize>() < (THREADS * EACH) as usize {
                let batch = consumer.poll(500, LOST).await.unwrap();
                assert!(!batch.is_empty(), "a wake-up or a record was lost");
                for event in batch.into_events() {
                    let bytes: [u8; 8] = event.payload.as_ref().try_into().unwrap();
                    let (thread, nth) = bytes.split_at(4);
                    let thread = u32::from_be_bytes(thread.try_into().unwrap());
                    seen[thread as usize].push(u32::from_be_bytes(nth.try_into().unwrap()));
                }
            }
            seen
        }));
    }
    let mut producers = Vec::new();
    for thread in 0..THREADS {
        let log = open().await.unwrap();
        // Synchronous code on a thread that knows of no runtime.
        producers.push(std::thread::spawn(move || {
            for nth in 0..EACH {
                let payload = [thread.to_be_bytes(), nth.to_be_bytes()].concat();
                drop(log.submit(RawEvent::new(format!("thread-{thread}"), payload)).unwrap());
            }
        }));
    }
    for consumer in consumers {
        for numbers in consumer.await.unwrap() {
            assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "each thread's events, once and in order");
        }
    }
    producers.into_iter().for_each(|producer| producer.join().unwrap());
}
