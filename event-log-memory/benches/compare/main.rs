//! The log in memory against what else moves events between tasks: flume, tokio's broadcast, and a
//! `Mutex<Vec>`, all with the same events and the same tasks.
//!
//! The contenders of a row run in turn, round after round, so that what disturbs the machine disturbs them
//! all; a row shows medians, how far the middle half spreads, and the median of the ratios of each round.
//! Everything is also written to `target/bench/memory.json`.
//!
//! Two things to know when reading a row. **Retention**: flume and broadcast forget what they have moved. A
//! row has the log as it is by default (`event_log`, which retains everything, in memory that is touched for
//! the first time) and one that retains as much as the channels do (`event_log_bounded`); `mutex_vec` retains
//! everything too. **Work**: the others move an event, the log keeps its encoding. `vec_of_copies` is the
//! least that anything must do which keeps encodings: copy, give an id and a time, lock, push.
//!
//! `cargo bench -p event-log-memory --bench compare -- [--quick] [--only=CONTENDER] [HOW A ROW BEGINS]...`

mod contenders;
mod growth;
mod handing;
mod moving;
mod report;
#[path = "../support/mod.rs"]
mod support;

use self::report::Report;

fn main() {
    let mut report = Report::new(std::env::args().skip(1));
    let runtime = support::runtime();
    handing::rows(&mut report, &runtime);
    moving::rows(&mut report, &runtime);
    growth::rows(&mut report, &runtime);
    report.write();
}
