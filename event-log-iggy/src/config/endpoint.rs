//! Where the servers are and who we are to them.

use std::path::PathBuf;

use event_log_core::Error;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// The servers of one cluster (or one alone), and how to sign in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Endpoint {
    /// `host:port` of every server to try, in this order. One is enough, also for a cluster: the first that
    /// answers names the others. Several matter when the first one may be down at the start.
    pub addresses: Vec<String>,
    /// Who signs in.
    pub credentials: Credentials,
    /// TLS, when the server speaks it. The default is plain TCP, as the server's is: for a loopback or a private
    /// network only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Who signs in. Secrets are never printed or serialised; a configuration that is read back has to be given them
/// again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Credentials {
    /// A user with a password.
    Password {
        /// The name of the user.
        username: String,
        /// The password.
        #[serde(default = "no_secret", skip_serializing)]
        password: SecretString,
    },
    /// A personal access token.
    Token {
        /// The token.
        #[serde(default = "no_secret", skip_serializing)]
        token: SecretString,
    },
}

/// How to verify a server that speaks TLS. There is no way to skip it: a certificate of one's own is trusted by
/// naming its authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Tls {
    /// The name that the certificate must carry. The default is the host of the address.
    pub domain: Option<String>,
    /// A PEM file with the authorities to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
}

fn no_secret() -> SecretString {
    SecretString::default()
}

impl Endpoint {
    /// One server over plain TCP.
    pub fn new(address: impl Into<String>, credentials: Credentials) -> Self {
        Self { addresses: vec![address.into()], credentials, tls: None }
    }

    /// Validates the addresses and the credentials.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] with the name of the field.
    pub fn validate(&self) -> Result<(), Error> {
        if self.addresses.is_empty() {
            return Err(Error::invalid("endpoint.addresses", "must name at least one server"));
        }
        if let Some(address) = self.addresses.iter().find(|address| !is_host_and_port(address)) {
            let problem = if address.contains('@') {
                // Not with the address, which has a password in it.
                "the credentials are those of the whole endpoint: an address is host:port".to_owned()
            } else {
                format!("{address:?} is not host:port")
            };
            return Err(Error::invalid("endpoint.addresses", problem));
        }
        self.credentials.validate()
    }
}

impl Credentials {
    /// A user with a password.
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { username: username.into(), password: SecretString::from(password.into()) }
    }

    /// A personal access token.
    pub fn token(token: impl Into<String>) -> Self {
        Self::Token { token: SecretString::from(token.into()) }
    }

    fn validate(&self) -> Result<(), Error> {
        let (name, secret) = match self {
            Self::Password { username, .. } if username.is_empty() => {
                return Err(Error::invalid("endpoint.credentials.username", "must not be empty"));
            }
            Self::Password { password, .. } => ("endpoint.credentials.password", password),
            Self::Token { token } => ("endpoint.credentials.token", token),
        };
        if secret.expose_secret().is_empty() {
            return Err(Error::invalid(name, "must not be empty"));
        }
        Ok(())
    }
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('@') && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_named() {
        let name = |endpoint: Endpoint| match endpoint.validate() {
            Err(Error::InvalidArgument { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        let user = || Credentials::password("iggy", "secret");
        assert_eq!(
            name(Endpoint { addresses: vec![], credentials: user(), tls: None }),
            "endpoint.addresses"
        );
        for address in
            ["localhost", "localhost:", ":8090", "localhost:0", "localhost:70000", "u:p@localhost:1"]
        {
            assert_eq!(name(Endpoint::new(address, user())), "endpoint.addresses", "{address}");
        }
        let nobody = Credentials::password("", "secret");
        assert_eq!(name(Endpoint::new("h:1", nobody)), "endpoint.credentials.username");
        assert_eq!(name(Endpoint::new("h:1", Credentials::token(""))), "endpoint.credentials.token");
        Endpoint::new("[::1]:8090", user()).validate().unwrap();
    }

    #[test]
    fn secrets_are_neither_shown_nor_written() {
        let endpoint = Endpoint::new("h:1", Credentials::password("iggy", "hunter2"));
        assert!(!format!("{endpoint:?}").contains("hunter2"));
        let written = serde_json::to_string(&endpoint).unwrap();
        assert!(!written.contains("hunter2"), "{written}");
        let read: Endpoint = serde_json::from_str(&written).unwrap();
        assert!(read.validate().is_err(), "the secret has to be given again");
    }
}
