//! Random programs on memory and on a real iggy-server: they show the same.
//!
//! `PROPTEST_CASES` sets how many. Each takes seconds, since outages take their time on a real clock; one that fails is
//! shrunk by running it again and again on the server.

use event_log_core::conformance::Harness as _;
use event_log_memory::MemoryHarness;
use event_log_tests::equal::{Program, Seen, program, run};
use event_log_tests::iggy::IggyHarness;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

fn on_memory(program: &Program) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let seen = runtime.expect("a runtime").block_on(async { run(&MemoryHarness::new(), program).await });
    seen.expect("the in-memory log has every fault")
}

/// `None` where there is no server.
fn on_iggy(program: &Program) -> Option<Vec<Seen>> {
    let harness = IggyHarness::new();
    harness.ready().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let seen = runtime.expect("a runtime").block_on(run(&harness, program));
    Some(seen.expect("the proxy has every fault that programs use"))
}

fn config() -> Config {
    let explores = std::env::var_os("PROPTEST_CASES").is_some();
    Config {
        cases: if explores { Config::default().cases } else { 24 },
        rng_seed: if explores { RngSeed::Random } else { RngSeed::Fixed(2_026) },
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn iggy_is_like_memory(program in program(40)) {
        let Some(iggy) = on_iggy(&program) else { return Ok(()) };
        for (at, (memory, iggy)) in on_memory(&program).iter().zip(&iggy).enumerate() {
            prop_assert_eq!(memory, iggy, "operation {}: {:?}", at, program.ops.get(at));
        }
    }
}
