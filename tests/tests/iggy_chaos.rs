//! Random work under random faults on a real server: a short run with fixed seeds. `cargo xtask chaos` makes long ones.

use std::sync::Arc;

use event_log_tests::chaos::{IggySite, Progress, Report, Settings, check, run};
use event_log_tests::iggy::DiskServer;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=2;
const EVENTS: u64 = 4_000;
/// As many as there are kinds, so that each has its turn.
const FAULTS: u32 = 20;
/// Twice what a run appends at most.
const DISK: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_reordered_or_stuck() {
    let Some(server) = DiskServer::start(DISK).await else { return };
    let mut server = Arc::new(server);
    let mut report = Report::default();
    for seed in SEEDS {
        if server.is_used_up() {
            server = Arc::new(DiskServer::start(DISK).await.expect("there was one before"));
        }
        let settings = Settings::new(seed, EVENTS, FAULTS);
        let site = Arc::new(IggySite::new(Arc::clone(&server), &settings).await);
        let history = run(site, &settings, &Arc::new(Progress::default())).await;
        let verdict = check(&history);
        let violations: Vec<_> = verdict.violations.iter().take(10).map(ToString::to_string).collect();
        assert!(
            violations.is_empty(),
            "seed {seed}: {violations:#?}\nagain: cargo xtask chaos --seed {seed} --events {EVENTS} --faults {FAULTS}"
        );
        report.add(&verdict);
    }
    println!("{report}");
}
