//! The suite and the contract belong together, and what is not run is told.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::error::Error;
use crate::log::EventLog;

/// The clauses that the text of the contract has.
fn clauses(contract: &str) -> Vec<&str> {
    contract.lines().filter_map(clause).collect()
}

/// The id of the clause that begins in this line.
fn clause(line: &str) -> Option<&str> {
    let (id, _) = line.strip_prefix("- **")?.split_once(' ')?;
    let number = id.strip_prefix(['a', 'c', 'l'])?;
    number.parse::<u32>().ok().map(|_| id)
}

#[test]
fn every_clause_has_a_case_and_every_case_a_clause() {
    let clauses = clauses(include_str!("../../CONTRACT.md"));
    let known: BTreeSet<_> = clauses.iter().copied().collect();
    assert_eq!(known.len(), clauses.len(), "a clause stands there twice");
    assert!(known.len() >= 46, "the contract has lost clauses: {known:?}");
    let proven: BTreeSet<_> = CASES.iter().map(Case::clause).collect();
    let without_case: Vec<_> = known.difference(&proven).collect();
    assert!(without_case.is_empty(), "no case proves {without_case:?}");
    let without_clause: Vec<_> = proven.difference(&known).collect();
    assert!(without_clause.is_empty(), "the contract has no {without_clause:?}");
    let names: BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), CASES.len(), "a name is used twice");
    #[cfg(feature = "engine")]
    for case in TRANSPORT_CASES {
        let clause = case.split('_').next().expect("a name has a beginning");
        assert!(known.contains(clause), "the contract has no {clause}, of which {case} is a case");
    }
}

/// A backend that opens nothing: its cases end where they ask for a fault, or before.
struct Nothing {
    not_run: Vec<(&'static str, &'static str)>,
    makes_faults: bool,
    ready: bool,
}

#[async_trait]
impl Harness for Nothing {
    async fn open(&self, _: &Spec) -> Result<Arc<dyn EventLog<Probe>>, Error> {
        Err(Error::Unsupported("opening"))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn ready(&self) -> Result<(), NotRun> {
        if self.ready { Ok(()) } else { Err(NotRun("no server".to_owned())) }
    }

    fn not_run(&self) -> &[(&'static str, &'static str)] {
        &self.not_run
    }

    async fn inject(&self, _: Fault) -> Result<(), NotRun> {
        if self.makes_faults { Ok(()) } else { Err(NotRun("it cannot".to_owned())) }
    }
}

/// Asks for one fault, and for nothing else.
const ASKS: Case =
    Case { name: "a1_asks", run: |harness| Box::pin(async move { harness.inject(Fault::Crash).await }) };

fn ending(not_run: &[(&'static str, &'static str)], makes_faults: bool) -> Result<Ending, String> {
    let harness = Nothing { not_run: not_run.to_vec(), makes_faults, ready: true };
    let run = || super::run::run_case(&ASKS, || harness);
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn a_case_that_cannot_be_run_fails_unless_it_is_declared() {
    assert_eq!(ending(&[], true), Ok(Ending::Passed));
    let said = ending(&[], false).expect_err("it was not run");
    assert!(said.contains("has not declared"), "{said}");
    let declared = Ok(Ending::NotRun(NotRun("why".to_owned())));
    assert_eq!(ending(&[("a1_asks", "why")], false), declared);
    assert_eq!(ending(&[("Crash", "why")], false), declared);
    assert!(ending(&[("Restart", "why")], false).is_err(), "another fault is declared");
}

#[test]
fn a_declaration_that_is_not_true_fails() {
    for declared in ["a1_asks", "Crash"] {
        let said = ending(&[(declared, "why")], true).expect_err("it runs");
        assert!(said.contains("is declared as not run"), "{said}");
    }
}

#[test]
fn without_anything_to_run_on_nothing_is_run() {
    let harness = Nothing { not_run: Vec::new(), makes_faults: true, ready: false };
    let ending = super::run::run_case(&ASKS, || harness);
    assert_eq!(ending, Ending::NotRun(NotRun("no server".to_owned())));
}

#[test]
fn declarations_are_checked() {
    let listed = |not_run: &[(&'static str, &'static str)]| {
        let harness = Nothing { not_run: not_run.to_vec(), makes_faults: false, ready: true };
        catch_unwind(AssertUnwindSafe(|| list_not_run(|| harness))).is_ok()
    };
    assert!(listed(&[("Crash", "why"), (CASES[0].name, "why")]));
    assert!(!listed(&[("a1_no_such_case", "why")]));
    assert!(!listed(&[("Crash", "why"), ("Crash", "why")]));
    assert!(!listed(&[("Crash", " ")]));
}

#[test]
fn every_fault_is_called_by_its_name() {
    let partition = crate::position::PartitionId(0);
    for fault in [Fault::Crash, Fault::LoseReplies(1), Fault::TornTail(partition, Tear::Short)] {
        assert!(Fault::NAMES.contains(&fault.name()));
        assert!(format!("{fault:?}").starts_with(fault.name()));
    }
}
