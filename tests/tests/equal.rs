//! The same random program on two logs in memory, and on one twice, shows the same: which proves the comparison, and
//! what it leaves out.

use event_log_memory::MemoryHarness;
use event_log_tests::equal::{End, Op, Program, Seen, program, run};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

fn on_memory(program: &Program) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let seen = runtime.expect("a runtime").block_on(async { run(&MemoryHarness::new(), program).await });
    seen.expect("the in-memory log has every fault")
}

fn config() -> Config {
    let explores = std::env::var_os("PROPTEST_CASES").is_some();
    Config {
        rng_seed: if explores { RngSeed::Random } else { RngSeed::Fixed(2_026) },
        failure_persistence: None,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_log_is_like_itself(program in program(60)) {
        let (one, other) = (on_memory(&program), on_memory(&program));
        for (at, (one, other)) in one.iter().zip(&other).enumerate() {
            prop_assert_eq!(one, other, "operation {}: {:?}", at, program.ops.get(at));
        }
    }

    #[test]
    fn nothing_goes_wrong_on_the_way(program in program(60)) {
        for (seen, op) in on_memory(&program).iter().zip(&program.ops) {
            let is_odd = match seen {
                Seen::HandedOver { wrong, .. } => !wrong.is_empty(),
                // A cursor is from before a seek, and names more than is committed.
                Seen::Failed("superseded") => !program.ops.iter().any(|op| matches!(op, Op::Seek(..) | Op::HandOver(..))),
                Seen::Failed(kind) => !["seek", "beyond", "group"].contains(kind),
                // An outcome may only be unknown where the log has begun again meanwhile.
                Seen::Ended(ends) => ends.iter().any(|end| match end {
                    End::Failed("unknown") => !program.ops.iter().any(|op| matches!(op, Op::BeginAgain(_))),
                    end => matches!(end, End::Failed("pending" | "nowhere")),
                }),
                _ => false,
            };
            prop_assert!(!is_odd, "{op:?} showed {seen:?}");
        }
    }
}
