//! Random faults, and then none: every caller goes on, beside the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::chance::Chance;
use crate::served::{Fate, FetchFate, PARTITIONS, SECOND, Server, event};
use event_log_core::{EventLog as _, EventLogExt as _, Overflow, ProducerConfig};
use tokio::time::sleep;

async fn run(seed: u64) -> Option<String> {
    let mut chance = Chance(seed);
    let server = Server::new(chance.next(4) > 0, chance.of(&[1, 2, 3]));
    let mut config = ProducerConfig::default();
    config.buffer_events = chance.of(&[1, 4, 1_000]);
    config.request_events = chance.of(&[1, 3, 1_000]);
    config.overflow = chance.of(&[Overflow::DropOldest, Overflow::Block { deadline: 5 * SECOND }]);
    config.expiry = chance.of(&[None, None, Some(20 * SECOND)]);
    let shown = format!("{} connections, {config:?}", server.connections);
    let log = server.open(config).await;
    for partition in 0..PARTITIONS {
        let takes = chance.of(&[5, 50, 400]);
        server.with(partition, |partition| partition.every_send = Some(Fate::Confirmed(takes)));
    }
    server.state.lock().most = chance.of(&[1, 3, usize::MAX]);
    let progress: Vec<_> = (0..PARTITIONS * 3).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    for (nth, progress) in (0..).zip(&progress) {
        let (log, progress, pause) = (log.clone(), progress.clone(), chance.of(&[50, 200, 700]));
        tokio::spawn(async move {
            loop {
                drop(log.append_acked(event(nth % PARTITIONS, 0)).await);
                progress.fetch_add(1, Relaxed);
                sleep(Duration::from_millis(pause)).await;
            }
        });
    }
    for _ in 0..chance.of(&[5, 30, 100]) {
        let partition = chance.next(PARTITIONS.into()) as u32;
        match chance.next(12) {
            0..=4 => {
                let fate = chance.of(&[
                    Fate::Lost,
                    Fate::ReplyLost,
                    Fate::ReplyLostAfter(300),
                    Fate::Cut(100),
                    Fate::Refused,
                    Fate::RefusedAfter(200),
                    Fate::AnswerAfter(800),
                    Fate::HalfLostAfter(100),
                    Fate::Confirmed(2_000),
                    Fate::LostAfter(3_000),
                ]);
                server.fate(partition, fate);
            }
            5 | 6 => {
                let fate = chance.of(&[
                    FetchFate::Empty,
                    FetchFate::Fault,
                    FetchFate::Unavailable,
                    FetchFate::TimesOut(700),
                    FetchFate::After(300),
                ]);
                server.fetch_fate(partition, fate);
            }
            7 => server.state.lock().down = chance.next(2) == 0,
            8 => server.state.lock().flaps = chance.next(3) == 0,
            9 => server.state.lock().refuses_connections = chance.next(2) == 0,
            10 => server.state.lock().watermarks_take = Duration::from_millis(chance.of(&[0, 10, 450, 700])),
            _ => server.others(partition, 20),
        }
        sleep(Duration::from_millis(chance.of(&[1, 50, 300, 1_000, 3_000]))).await;
    }
    {
        let mut state = server.state.lock();
        (state.down, state.flaps, state.refuses_connections) = (false, false, false);
        state.watermarks_take = Duration::from_millis(2);
        for partition in &mut state.partitions {
            partition.fates.clear();
            partition.fetches.clear();
        }
    }
    sleep(120 * SECOND).await;
    let known: Vec<_> = progress.iter().map(|progress| progress.load(Relaxed)).collect();
    for _ in 0..2 {
        sleep(60 * SECOND).await;
    }
    let now: Vec<_> = progress.iter().map(|progress| progress.load(Relaxed)).collect();
    let stuck = known.iter().zip(&now).any(|(known, now)| now < &(known + 5));
    stuck.then(|| {
        format!("seed {seed}: {known:?} and two minutes later {now:?}; {shown}; {:?}", log.state().current())
    })
}

#[test]
fn every_caller_goes_on_once_the_faults_are_over() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (first, count) = (number("SEED", 0), number("SEEDS", 30));
    let start = std::time::Instant::now();
    let mut failed = Vec::new();
    for seed in first..first + count {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        failed.extend(runtime.block_on(run(seed)));
        if start.elapsed() > Duration::from_secs(20) {
            eprintln!("up to {seed}");
            break;
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
