//! Running a case, and judging whether it may be left out.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::fault::Fault;
use super::fixture::Probe;
use super::harness::{Capabilities, CaseResult, Harness, NotRun, Spec};
use super::{CASES, Case};
use crate::error::Error;
use crate::log::EventLog;

/// A case that takes longer is stuck. On a paused clock it is the deadlock detector.
const CASE_TIMEOUT: Duration = Duration::from_secs(120);

/// How a case has ended, if not by a panic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ending {
    /// It ran, and found nothing wrong.
    Passed,
    /// It was not run: there is nothing to run on, or the harness has declared it.
    NotRun(NotRun),
}

/// Runs one case on a harness that `harness` makes inside the case's own runtime.
///
/// # Panics
///
/// When the case fails, when it is stuck, and when there is no case of that name. Further when it cannot be run and the
/// harness has not [declared](Harness::not_run) that, and when it is declared and runs.
pub fn run<H: Harness>(name: &str, harness: impl FnOnce() -> H) -> Ending {
    let case =
        CASES.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("there is no case {name}"));
    run_case(case, harness)
}

pub(super) fn run_case<H: Harness>(case: &Case, harness: impl FnOnce() -> H) -> Ending {
    let ending = within_a_runtime(async { run_on(case, &harness()).await });
    if let Ending::NotRun(NotRun(reason)) = &ending {
        announce(&format!("{}: not run: {reason}", case.name));
    }
    ending
}

/// Checks what a harness [declares](Harness::not_run), and lists it: what a run of the suite has left out.
///
/// # Panics
///
/// When a declaration names neither a case nor a fault, names one twice, or gives no reason.
pub fn list_not_run<H: Harness>(harness: impl FnOnce() -> H) {
    within_a_runtime(async {
        let harness = harness();
        let mut names = BTreeSet::new();
        for (name, reason) in harness.not_run() {
            let known = CASES.iter().any(|case| case.name == *name) || Fault::NAMES.contains(name);
            assert!(known, "{name} is declared as not run, and is neither a case nor a fault");
            assert!(names.insert(name), "{name} is declared as not run twice");
            assert!(!reason.trim().is_empty(), "{name} is declared as not run without a reason");
            announce(&format!("declared as not run: {name}: {reason}"));
        }
        if let Err(NotRun(reason)) = harness.ready() {
            announce(&format!("none of {} cases was run: {reason}", CASES.len()));
        }
    });
}

pub(super) fn within_a_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap_or_else(|error| panic!("no runtime: {error}")).block_on(work)
}

async fn run_on(case: &Case, harness: &dyn Harness) -> Ending {
    if harness.virtual_time() {
        tokio::time::pause();
    }
    if let Err(reason) = harness.ready() {
        return Ending::NotRun(reason);
    }
    let watched = Watched { inner: harness, refused: Mutex::default() };
    let outcome = tokio::time::timeout(CASE_TIMEOUT, (case.run)(&watched)).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("{} is stuck", case.name));
    watched.judge(case.name, outcome)
}

/// Not through the captured output of the test, which is not shown when the test passes.
pub(super) fn announce(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("conformance: {line}\n").as_bytes());
}

/// A harness that is held to what it has declared.
struct Watched<'a> {
    inner: &'a dyn Harness,
    /// The faults that it could not make.
    refused: Mutex<Vec<&'static str>>,
}

impl Watched<'_> {
    fn declared(&self, name: &str) -> Option<&'static str> {
        self.inner.not_run().iter().find(|(declared, _)| *declared == name).map(|(_, reason)| *reason)
    }

    fn judge(&self, case: &str, outcome: CaseResult) -> Ending {
        let declared = self.declared(case);
        match (outcome, declared) {
            (Ok(()), None) => Ending::Passed,
            (Ok(()), Some(reason)) => panic!("{case} is declared as not run ({reason}), but runs"),
            (Err(_), Some(reason)) => Ending::NotRun(NotRun(reason.to_owned())),
            (Err(NotRun(said)), None) => {
                let reason = self.refused.lock().iter().find_map(|fault| self.declared(fault));
                let Some(reason) = reason else {
                    panic!("{case} was not run, and its harness has not declared that: {said}")
                };
                Ending::NotRun(NotRun(reason.to_owned()))
            }
        }
    }
}

#[async_trait]
impl Harness for Watched<'_> {
    async fn open(&self, spec: &Spec) -> Result<Arc<dyn EventLog<Probe>>, Error> {
        self.inner.open(spec).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn inject(&self, fault: Fault) -> Result<(), NotRun> {
        let name = fault.name();
        let made = self.inner.inject(fault).await;
        match (&made, self.declared(name)) {
            (Ok(()), Some(reason)) => panic!("{name} is declared as not run ({reason}), but is made"),
            (Ok(()), None) => {}
            (Err(_), _) => self.refused.lock().push(name),
        }
        made
    }

    fn virtual_time(&self) -> bool {
        self.inner.virtual_time()
    }
}
