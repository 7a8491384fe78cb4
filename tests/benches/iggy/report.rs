//! What is made of the results: a table for people, JSON for programs, and drawings.

mod json;
mod plot;
mod table;

use std::fs;
use std::path::Path;

use crate::Failure;
use crate::contest::Contest;
use crate::environment::Environment;

pub(crate) use self::table::{print, summary};

/// Writes `iggy.json` and the drawings.
pub(crate) fn write(folder: &Path, environment: &Environment, contests: &[Contest]) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("iggy.json"), serde_json::to_vec_pretty(&json::report(environment, contests))?)?;
    for contest in contests {
        plot::bars(folder, contest)?;
        plot::latencies(folder, contest)?;
    }
    Ok(())
}
