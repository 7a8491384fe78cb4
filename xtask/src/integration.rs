//! `cargo xtask integration`: the suites on a real iggy-server.
//!
//! There is no Iggy backend yet, and this command says so, and fails, rather than run nothing and pass. It
//! already looks for the server in the ways that it will.

use std::path::PathBuf;

use crate::{Outcome, server};

pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let explicit = match args {
        [] => None,
        [flag, path] if flag == "--server" => Some(PathBuf::from(path)),
        _ => return Err("usage: cargo xtask integration [--server PATH]".to_owned()),
    };
    match server::find(explicit.as_deref()) {
        Ok(server) => println!("found {}", server.display()),
        Err(problem) => println!("{problem}"),
    }
    Err("nothing was run: the Iggy backend is not written yet".to_owned())
}
