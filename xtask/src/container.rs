//! The official container image of Apache Iggy, as a place to get the server from: the tests start and kill it
//! themselves, which a container would only get in the way of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::target_folder;

/// The server that the SDK in `event-log-iggy` talks to.
const VERSION: &str = "0.9.0";

/// Where the image has it.
const IN_THE_IMAGE: &str = "/usr/local/bin/iggy-server";

/// How to do by hand what [`copy_server`] does.
pub(crate) fn by_hand() -> String {
    format!(
        "or copy it out of the container image:\n  \
         docker create --name iggy-copy apache/iggy:{VERSION}\n  \
         docker cp iggy-copy:{IN_THE_IMAGE} .\n  \
         docker rm iggy-copy"
    )
}

/// Whether a Docker daemon answers.
pub(crate) fn has_docker() -> bool {
    Command::new("docker").arg("version").output().is_ok_and(|output| output.status.success())
}

/// Copies the server out of the image into the target folder, unless it is there from the last time.
pub(crate) fn copy_server() -> Result<PathBuf, String> {
    let folder = target_folder().join("iggy-server").join(VERSION);
    let server = folder.join("iggy-server");
    if server.is_file() {
        return Ok(server);
    }
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let image = format!("apache/iggy:{VERSION}");
    println!("there is no iggy-server here: copying the one of the container image {image}");
    let container = docker(&["create", &image])?;
    // Under another name until it is whole.
    let copy = folder.join("iggy-server.new");
    let copied = docker(&["cp", &format!("{container}:{IN_THE_IMAGE}"), &copy.to_string_lossy()]);
    let removed = docker(&["rm", &container]);
    copied.and(removed)?;
    // It may be made for another system than the one that Docker has made for itself here.
    says_its_version(&copy)?;
    fs::rename(&copy, &server).map_err(|error| format!("{}: {error}", server.display()))?;
    Ok(server)
}

fn says_its_version(server: &Path) -> Result<(), String> {
    match Command::new(server).arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("the server of the container image does not run here: {}", output.status)),
        Err(error) => Err(format!("the server of the container image does not run here: {error}")),
    }
}

/// Runs it and returns the last line that it prints: `docker create` may report a download before it.
fn docker(args: &[&str]) -> Result<String, String> {
    let shown = format!("docker {}", args.join(" "));
    let output = Command::new("docker").args(args).output().map_err(|error| format!("{shown}: {error}"))?;
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{shown} failed: {}\n{problem}", output.status));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok(printed.lines().last().unwrap_or_default().trim().to_owned())
}
