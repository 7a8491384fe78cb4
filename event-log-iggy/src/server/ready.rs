//! When a server is ready: it has written down its port, and lets us in.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use secrecy::ExposeSecret as _;

use super::ROOT_USER;
use super::error::ServerError;
use super::folder::DataFolder;
use crate::config::{Credentials, Endpoint};
use crate::limits::{CONNECT_TIMEOUT, REQUEST_TIMEOUT, SERVER_START_LOOK};
use crate::sdk::{CallError, ErrorClass, probe};

/// The endpoint of a server at this address, for whoever has its data folder.
pub(super) fn endpoint(address: SocketAddr, folder: &DataFolder) -> Endpoint {
    let password = folder.password().expose_secret();
    Endpoint::new(address.to_string(), Credentials::password(ROOT_USER, password))
}

/// Makes sure that what is read by [`wait`] is of the server that is started next.
pub(super) fn forget_last(folder: &DataFolder) -> Result<(), ServerError> {
    let file = folder.runtime_config();
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ServerError::folder(file)(error)),
        _ => Ok(()),
    }
}

/// Waits until the server lets us in, and returns where. Without end, unless it refuses us; `last` is how the last
/// attempt has failed. Cancel safe.
pub(super) async fn wait(
    folder: &DataFolder,
    last: &mut Option<CallError>,
) -> Result<SocketAddr, ServerError> {
    loop {
        if let Some(address) = bound_address(&folder.runtime_config()) {
            match sign_in(&endpoint(address, folder)).await {
                Ok(()) => return Ok(address),
                Err(error) if matches!(error.class(), ErrorClass::Forbidden | ErrorClass::SignedOut) => {
                    return Err(ServerError::Unauthorized {
                        file: folder.password_file(),
                        source: error.into(),
                    });
                }
                Err(error) => *last = Some(error),
            }
        }
        // The server sends no event, and the file system's would need a watch on folders that are yet to be made.
        tokio::time::sleep(SERVER_START_LOOK).await;
    }
}

async fn sign_in(endpoint: &Endpoint) -> Result<(), CallError> {
    probe(endpoint, CONNECT_TIMEOUT, REQUEST_TIMEOUT).await
}

/// The address in the file that the server writes after it has bound its ports. `None` as long as there is no
/// (whole) one.
fn bound_address(file: &Path) -> Option<SocketAddr> {
    tcp_address(&fs::read_to_string(file).ok()?)
}

fn tcp_address(config: &str) -> Option<SocketAddr> {
    let section = config.lines().skip_while(|line| line.trim() != "[tcp]").skip(1);
    let address = section
        .take_while(|line| !line.starts_with('['))
        .find_map(|line| line.strip_prefix("address")?.trim_start().strip_prefix('='))?;
    // Without the closing quote it is not written to its end yet.
    let address: SocketAddr = address.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok()?;
    (address.port() != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_section_tcp() {
        let config = "[quic]\naddress = \"127.0.0.1:1\"\n\n[tcp]\nenabled = true\naddress = \"127.0.0.1:33581\"\n\
             \n[tcp.tls]\nenabled = false\n\n[http]\naddress = \"127.0.0.1:0\"\n";
        assert_eq!(tcp_address(config), Some(SocketAddr::from(([127, 0, 0, 1], 33_581))));
    }

    #[test]
    fn what_is_not_there_yet_is_not_believed() {
        for config in [
            "",
            "[tcp]\n",
            "[tcp]\naddress = \"127.0.0.1:33",
            "[tcp]\naddress = \"127.0.0.1:0\"\n",
            "[tcp]\nenabled = true\n[http]\naddress = \"127.0.0.1:5\"\n",
        ] {
            assert_eq!(tcp_address(config), None, "{config}");
        }
    }
}
