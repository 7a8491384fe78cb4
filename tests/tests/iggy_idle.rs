//! What waiting costs. A process of its own, so that nobody else's work is counted.

use std::time::{Duration, Instant};

use event_log_core::conformance::{Harness as _, Probe};
use event_log_core::{EventLog, EventLogExt};
use event_log_tests::iggy::{IggyHarness, shared_server};

/// How long is measured. The system counts in hundredths of a second.
const MEASURED: Duration = Duration::from_secs(4);

/// The processor time of a process so far, as Linux counts it; `None` elsewhere.
fn cpu(process: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may have anything in it; user and system time are fields 14 and 15.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

#[tokio::test]
async fn idle_consumers_cost_next_to_nothing() {
    let harness = IggyHarness::new();
    if harness.ready().is_err() || cpu("self").is_none() {
        return;
    }
    let log = event_log_iggy::builder::<Probe>(harness.config().await).open().await.expect("the log opens");
    let server =
        shared_server().and_then(event_log_iggy::server::IggyServer::pid).expect("it runs").to_string();
    let idle = async |count: usize| {
        let mut waiting = Vec::new();
        for nth in 0..count {
            let mut reader = log.consumer(&format!("group-{count}-{nth}")).await.expect("a consumer opens");
            waiting.push(tokio::spawn(async move {
                loop {
                    let batch = reader.poll(10, Duration::from_secs(60)).await.expect("a batch");
                    assert!(batch.is_empty(), "{batch:?}");
                }
            }));
        }
        // Opening is not waiting.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (ours, its, start) = (cpu("self"), cpu(&server), Instant::now());
        tokio::time::sleep(MEASURED).await;
        let took = start.elapsed();
        let share = |before: Option<Duration>, after: Option<Duration>| {
            after.zip(before).map_or(0.0, |(after, before)| (after - before).as_secs_f64())
                / took.as_secs_f64()
        };
        let shares = (share(ours, cpu("self")), share(its, cpu(&server)));
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        shares
    };
    let nobody = idle(0).await;
    let one = idle(1).await;
    let many = idle(64).await;
    // Shown by `--nocapture`.
    println!("shares of a core, ours and the server's: nobody {nobody:?}, one {one:?}, sixty-four {many:?}");
    // Of a build without optimisations, and with a proxy in the process.
    assert!(one.0 - nobody.0 < 0.01 * 4.0, "an idle consumer costs {one:?}, nobody {nobody:?}");
    assert!(many.0 < 0.25, "sixty-four idle consumers cost {many:?}");
    log.close(Duration::from_secs(5)).await.expect("nothing is left");
}
