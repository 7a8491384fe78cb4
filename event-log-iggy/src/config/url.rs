//! A log as a URL.

use std::str::FromStr;
use std::time::Duration;

use event_log_core::{Error, Overflow};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{Credentials, Durability, Endpoint, IggyConfig, Tls};

/// The port of an iggy-server that was not told otherwise.
const DEFAULT_PORT: u16 = 8090;

impl FromStr for IggyConfig {
    type Err = Error;

    /// Reads `iggy://user:password@host:port/stream/topic?parameter=value&…` and validates it. The parameters are
    /// listed in the documentation of [the crate](crate#a-log-as-a-url).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] with the part of the URL that is invalid; never with the password.
    fn from_str(text: &str) -> Result<Self, Error> {
        // Not with what the parser says: its text may show the password.
        let url = Url::parse(text).map_err(|error| Error::invalid("url", error.to_string()))?;
        if url.scheme() != "iggy" {
            return Err(Error::invalid("url", "must begin with iggy://"));
        }
        let (authority, behind) = halves(text);
        refuse_cut_password(&url, &behind)?;
        let mut config = {
            let (stream, topic) = names(&url)?;
            Self::new(Endpoint::new(address(&url)?, credentials(&url, &authority)?), stream, topic)
        };
        for (name, value) in url.query_pairs() {
            set(&mut config, &name, &value)?;
        }
        config.validate()?;
        Ok(config)
    }
}

fn address(url: &Url) -> Result<String, Error> {
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| Error::invalid("url", "must name a host"))?;
    Ok(format!("{host}:{}", url.port().unwrap_or(DEFAULT_PORT)))
}

/// A password with a `/`, a `?` or a `#` in it ends the host too early. What is left of it would be taken for names and
/// parameters, which are shown.
fn refuse_cut_password(url: &Url, behind: &str) -> Result<(), Error> {
    // Not the path as it is parsed, from which `..` may have removed the end of the password.
    if behind.contains('@') {
        let problem =
            "an @ behind the host, and any of / ? # @ in a user or a password, must be percent-encoded";
        return Err(Error::invalid("url", problem));
    }
    if url.fragment().is_some() {
        return Err(Error::invalid("url", "must not have a fragment: a # must be percent-encoded"));
    }
    Ok(())
}

/// The text up to the end of the host, without the scheme, and the text behind the host.
fn halves(text: &str) -> (String, String) {
    // What the parser ignores.
    let text = text.replace(['\t', '\n', '\r'], "");
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    (authority.to_owned(), behind.to_owned())
}

fn credentials(url: &Url, authority: &str) -> Result<Credentials, Error> {
    let username = decoded("username", url.username())?;
    // The parser drops an empty password, and what is left looks like a token.
    let empty = authority.rsplit_once('@').is_some_and(|(userinfo, _)| userinfo.ends_with(':')).then_some("");
    match url.password().or(empty) {
        Some(password) => Ok(Credentials::password(username, decoded("password", password)?)),
        None if username.is_empty() => Err(Error::invalid("url", "must have user:password@ or token@")),
        None => Ok(Credentials::token(username)),
    }
}

/// The stream and the topic.
fn names(url: &Url) -> Result<(String, String), Error> {
    let mut segments = url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty());
    let names = (segments.next(), segments.next(), segments.next());
    let (Some(stream), Some(topic), None) = names else {
        return Err(Error::invalid("url", "must have a path of two names: /stream/topic"));
    };
    Ok((decoded("stream", stream)?, decoded("topic", topic)?))
}

fn decoded(name: &'static str, text: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| Error::invalid(name, "is not UTF-8"))?.into_owned())
}

fn set(config: &mut IggyConfig, name: &str, value: &str) -> Result<(), Error> {
    let producer = &mut config.producer;
    match name {
        "address" => config.endpoint.addresses.push(value.to_owned()),
        "tls" => {
            if flag("tls", value)? {
                config.endpoint.tls.get_or_insert_default();
            } else {
                config.endpoint.tls = None;
            }
        }
        "tls_domain" => tls(config).domain = Some(value.to_owned()),
        "tls_ca_file" => tls(config).ca_file = Some(value.into()),
        "partitions" => config.topology.partitions = number("partitions", value)?,
        "durability" => config.topology.durability = durability(value)?,
        "max_age" => config.topology.retention.max_age = Some(duration("max_age", value)?),
        "max_bytes" => config.topology.retention.max_bytes = Some(number("max_bytes", value)?),
        "connect_timeout" => config.connect_timeout = duration("connect_timeout", value)?,
        "request_timeout" => config.request_timeout = duration("request_timeout", value)?,
        "poll_interval" => config.poll_interval = duration("poll_interval", value)?,
        "connections" => config.connections = number("connections", value)?,
        "max_event_bytes" => producer.max_event_bytes = number("max_event_bytes", value)?,
        "buffer_events" => producer.buffer_events = number("buffer_events", value)?,
        "buffer_bytes" => producer.buffer_bytes = number("buffer_bytes", value)?,
        "overflow" => producer.overflow = overflow(value)?,
        "request_events" => producer.request_events = number("request_events", value)?,
        "request_bytes" => producer.request_bytes = number("request_bytes", value)?,
        "expiry" => producer.expiry = Some(duration("expiry", value)?),
        "reconnect" => producer.reconnect.initial = duration("reconnect", value)?,
        "reconnect_max" => producer.reconnect.max = duration("reconnect_max", value)?,
        _ => return Err(Error::invalid("url", format!("there is no parameter {name:?}"))),
    }
    Ok(())
}

fn tls(config: &mut IggyConfig) -> &mut Tls {
    config.endpoint.tls.get_or_insert_default()
}

fn flag(name: &'static str, value: &str) -> Result<bool, Error> {
    value.parse().map_err(|_| Error::invalid(name, "must be true or false"))
}

fn number<T: FromStr>(name: &'static str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|_| Error::invalid(name, format!("{value:?} is not a number that fits")))
}

fn duration(name: &'static str, value: &str) -> Result<Duration, Error> {
    let invalid = |error: humantime::DurationError| Error::invalid(name, format!("{value:?}: {error}"));
    humantime::parse_duration(value).map_err(invalid)
}

fn durability(value: &str) -> Result<Durability, Error> {
    match value {
        "persisted" => Ok(Durability::Persisted),
        "replicated" => Ok(Durability::Replicated),
        _ => Err(Error::invalid("durability", "must be persisted or replicated")),
    }
}

fn overflow(value: &str) -> Result<Overflow, Error> {
    match value.split_once(':') {
        None if value == "drop_oldest" => Ok(Overflow::DropOldest),
        None if value == "reject" => Ok(Overflow::Reject),
        None if value == "block" => Ok(Overflow::block()),
        Some(("block", deadline)) => Ok(Overflow::Block { deadline: duration("overflow", deadline)? }),
        _ => Err(Error::invalid("overflow", "must be drop_oldest, reject, block or block:DURATION")),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn parse(url: &str) -> IggyConfig {
        url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn refused(url: &str) -> (&'static str, String) {
        match url.parse::<IggyConfig>() {
            Err(Error::InvalidArgument { name, problem }) => (name, problem),
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn a_short_url_has_the_defaults() {
        let config = parse("iggy://iggy:secret@localhost/vibes/events");
        assert_eq!(config.endpoint.addresses, ["localhost:8090"]);
        assert_eq!((config.stream.as_str(), config.topic.as_str()), ("vibes", "events"));
        assert_eq!(config.topology, super::super::Topology::default());
        assert_eq!(config.producer, event_log_core::ProducerConfig::default());
        assert!(config.endpoint.tls.is_none());
    }

    #[test]
    fn every_parameter_is_heard() {
        let config = parse(
            "iggy://u:p@[::1]:9/s/t?address=b:1&tls=true&tls_domain=d&tls_ca_file=/ca.pem&partitions=3\
             &durability=replicated&max_age=7d&max_bytes=5000000000&connect_timeout=1s&request_timeout=2s\
             &poll_interval=30ms&max_event_bytes=1000&buffer_events=10&buffer_bytes=10000\
             &overflow=block:2s&request_events=5&request_bytes=500&expiry=1m&reconnect=100ms\
             &reconnect_max=3s",
        );
        assert_eq!(config.endpoint.addresses, ["[::1]:9", "b:1"]);
        let tls = config.endpoint.tls.unwrap();
        assert_eq!((tls.domain.as_deref(), tls.ca_file), (Some("d"), Some("/ca.pem".into())));
        assert_eq!(config.topology.partitions, 3);
        assert_eq!(config.topology.durability, Durability::Replicated);
        assert_eq!(config.topology.retention.max_age, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(config.topology.retention.max_bytes, Some(5_000_000_000));
        assert_eq!(config.connect_timeout, Duration::from_secs(1));
        assert_eq!(config.request_timeout, Duration::from_secs(2));
        assert_eq!(config.poll_interval, Duration::from_millis(30));
        let producer = config.producer;
        assert_eq!((producer.max_event_bytes, producer.buffer_events), (1_000, 10));
        assert_eq!((producer.buffer_bytes, producer.request_events), (10_000, 5));
        assert_eq!(producer.overflow, Overflow::Block { deadline: Duration::from_secs(2) });
        assert_eq!((producer.request_bytes, producer.expiry), (500, Some(Duration::from_secs(60))));
        assert_eq!(producer.reconnect.initial, Duration::from_millis(100));
        assert_eq!(producer.reconnect.max, Duration::from_secs(3));
    }

    #[test]
    fn names_and_secrets_may_be_percent_encoded() {
        let config = parse("iggy://us%40er:p%2Fw%3A@h:1/a%20stream/a%2Ftopic");
        assert_eq!((config.stream.as_str(), config.topic.as_str()), ("a stream", "a/topic"));
        let Credentials::Password { username, password } = config.endpoint.credentials else {
            panic!("a user with a password");
        };
        assert_eq!((username.as_str(), password.expose_secret()), ("us@er", "p/w:"));
        let config = parse("iggy://t0ken@h:1/s/t");
        assert!(matches!(config.endpoint.credentials, Credentials::Token { .. }));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (url, name) in [
            ("kafka://u:p@h/s/t", "url"),
            ("iggy://u:p@h/s", "url"),
            ("iggy://u:p@h/s/t/more", "url"),
            ("iggy://h/s/t", "url"),
            ("iggy:///s/t", "url"),
            ("iggy://u:p@h/s/t?partition=3", "url"),
            ("iggy://u:p@h/s/t?partitions=0", "partitions"),
            ("iggy://u:p@h/s/t?partitions=many", "partitions"),
            ("iggy://u:p@h/s/t?max_age=7", "max_age"),
            ("iggy://u:p@h/s/t?durability=maybe", "durability"),
            ("iggy://u:p@h/s/t?overflow=explode", "overflow"),
            ("iggy://u:@h/s/t", "endpoint.credentials.password"),
            ("iggy://u:\t@h/s/t", "endpoint.credentials.password"),
            ("iggy://u@corp:@h/s/t", "endpoint.credentials.password"),
            ("iggy://u:p@h/s/t#?partitions=3", "url"),
            ("iggy://u:p@h/s/t?address=u:p%40b:1", "endpoint.addresses"),
            ("iggy://u:p@h/%ff/t", "stream"),
        ] {
            assert_eq!(refused(url).0, name, "{url}");
        }
    }

    #[test]
    fn a_refused_url_does_not_show_its_password() {
        for url in [
            "iggy://u:hunter2@h:port/s/t",
            "iggy://u:hunter2@/s/t",
            "iggy://u:hunter2@h/s/t?x=1",
            // Where it is not, because it, or the user, is not percent-encoded.
            "iggy://u:p@a/s/t?hunter2@h/s/t",
            "iggy://u@corp:80/hunter2@h/s",
            "iggy://u:p@hunter2/s/t/x@h/..",
            "iggy://u:p@h/s/t?address=iggy://u:hunter2@b",
            "iggy://u:p@h/s/t?address=u:hunter2%40b",
        ] {
            let (_, problem) = refused(url);
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
