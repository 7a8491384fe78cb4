//! Arbitrary text as the URL of a log on Iggy.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use event_log_core::Error;
use event_log_iggy::{Credentials, IggyConfig};
use secrecy::{ExposeSecret, SecretString};

use super::{SEPARATOR, check_waits, write_json};

/// Two that no parser tells apart. It is not enough to look for one: a parser can put it together from other parts of a
/// URL, as the fuzzer found out.
const SECRETS: [&str; 2] = ["hunter2", "hunter3"];

/// Reads the input as a URL; if it has parts, also as URLs that are put together from them, with secrets in the places where
/// secrets are.
///
/// What can be read is valid, says the same when it is written as JSON and read again, and does not show its secret. What
/// cannot be read names what is wrong, and does not show a secret either, not even one that should have been
/// percent-encoded. Whatever is percent-encoded means itself.
///
/// # Panics
///
/// If that does not hold.
pub fn urls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(config) = read(text) {
        check_config(&config);
    }
    let parts: Vec<_> = text.split(char::from(SEPARATOR)).collect();
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    keeps_its_secret(part(0), part(1), part(2), part(3));
    means_itself(part(0), part(1), part(2), part(3));
}

/// A URL is valid, or it is said what is wrong.
fn read(text: &str) -> Option<IggyConfig> {
    match text.parse::<IggyConfig>() {
        Ok(config) => {
            config.validate().unwrap_or_else(|error| panic!("{text:?} was read although {error}"));
            Some(config)
        }
        Err(Error::InvalidArgument { name, problem }) => {
            assert!(!name.is_empty() && !problem.is_empty());
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn check_config(config: &IggyConfig) {
    // Nothing that comes of it later may be more than a clock can show.
    check_waits(&config.producer);
    for wait in [config.connect_timeout, config.request_timeout, config.poll_interval] {
        assert!(Instant::now().checked_add(wait * 2).is_some(), "{wait:?}");
    }
    let max_age = config.topology.retention.max_age;
    assert!(max_age.is_none_or(|age| Duration::from_micros(age.as_micros() as u64) == age), "{max_age:?}");

    // Whatever else is in it may look like the secret: so it is exchanged.
    let other = |secret: &SecretString| format!("not {}", secret.expose_secret());
    let exchanged = match &config.endpoint.credentials {
        Credentials::Password { username, password } => Credentials::password(username, other(password)),
        Credentials::Token { token } => Credentials::token(other(token)),
        more => panic!("no URL makes {more:?}"),
    };
    let mut twin = config.clone();
    twin.endpoint.credentials = exchanged;
    let written = write_json(config);
    assert_eq!(written, write_json(&twin), "the secret is written");
    assert_eq!(format!("{config:?}"), format!("{twin:?}"), "the secret is shown");

    let mut read: IggyConfig =
        serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    let refused = read.validate().expect_err("the secret has to be given again").to_string();
    assert!(refused.starts_with("endpoint.credentials."), "{refused}");
    read.endpoint.credentials = config.endpoint.credentials.clone();
    read.validate().unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(write_json(&read), written);
}

/// Wherever a user would put a secret, and whatever stands around it, percent-encoded or not: with another secret, everything
/// that is shown is the same.
fn keeps_its_secret(before: &str, user: &str, after: &str, rest: &str) {
    let address: String = before.chars().filter(|char| !"&#".contains(*char)).collect();
    let urls = |secret: &str| {
        [
            format!("iggy://{user}:{before}{secret}{after}@{rest}"),
            format!("iggy://{before}{secret}{after}@{rest}"),
            format!("iggy://{user}:{before}{secret}{after}@h/s/t?{rest}"),
            format!("{before}://{user}:{secret}@{rest}"),
            format!("iggy://u:p@h/s/t?address={address}{secret}%40{after}"),
            format!("iggy://u:p@h/s/t?address={address}{secret}@{after}"),
        ]
    };
    for (one, other) in urls(SECRETS[0]).into_iter().zip(urls(SECRETS[1])) {
        assert_eq!(shown(&one), shown(&other), "of {one:?}");
    }
}

/// What is shown of a URL, or of why it is refused.
fn shown(url: &str) -> String {
    match url.parse::<IggyConfig>() {
        Ok(mut config) => {
            check_config(&config);
            // A name is not a secret, and here it may be in one.
            if let Credentials::Password { username, .. } = &mut config.endpoint.credentials {
                SECRETS.iter().for_each(|secret| *username = username.replace(secret, ""));
            }
            format!("{config:?} {}", write_json(&config))
        }
        Err(error) => format!("{error} {error:?} {:?}", error.source()),
    }
}

/// Every user, secret and name can be said, percent-encoded, but those that cannot be meant.
fn means_itself(username: &str, secret: &str, stream: &str, topic: &str) {
    let [user, password, stream_of, topic_of] = [username, secret, stream, topic].map(encoded);
    // The standard has them mean the folder itself and the one above, however they are written.
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= 255;
    let are_names = is_name(stream) && is_name(topic);

    let config = read(&format!("iggy://{user}:{password}@h/{stream_of}/{topic_of}"));
    assert_eq!(config.is_some(), are_names && !username.is_empty() && !secret.is_empty());
    if let Some(config) = config {
        let Credentials::Password { username: read, password } = config.endpoint.credentials else {
            panic!("a user with a password has become a token");
        };
        assert_eq!((read.as_str(), password.expose_secret()), (username, secret));
        assert_eq!((config.stream.as_str(), config.topic.as_str()), (stream, topic));
    }

    let config = read(&format!("iggy://{password}@h/{stream_of}/{topic_of}"));
    assert_eq!(config.is_some(), are_names && !secret.is_empty());
    if let Some(config) = config {
        let Credentials::Token { token } = config.endpoint.credentials else {
            panic!("a token has a password")
        };
        assert_eq!(token.expose_secret(), secret);
    }
    // A password that was forgotten is no token, whatever the user is called.
    for user in [user.as_str(), username] {
        let url = format!("iggy://{user}:@h/s/t");
        assert!(user.contains(['/', '?', '#', ':']) || read(&url).is_none(), "{url:?} was read");
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
        encoded
    })
}
