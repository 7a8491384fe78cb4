//! Which versions of the server the SDK can talk to.

use std::fmt;

/// The version of the SDK that this crate is built with, as far as it matters for who talks to whom.
pub(super) const SDK_SERIES: &str = "0.11";

/// The servers that this SDK talks to. Those of other versions do not understand it, not even its sign-in.
pub(super) const SERVER_SERIES: &str = "0.9";

/// What `iggy-server --version` says, such as `0.9.0` or `0.9.0-edge.5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    text: String,
    /// Major and minor.
    series: (u64, u64),
}

impl Version {
    /// The first word that looks like a version: servers have called themselves by different names before it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let word = word.trim_start_matches('v');
            let mut numbers = word.splitn(3, '.');
            let series = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
            numbers.next()?.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
            Some(Self { text: word.to_owned(), series })
        })
    }

    /// A pre-release speaks like the version that it comes before.
    pub(super) fn fits(&self) -> bool {
        let (major, minor) = self.series;
        format!("{major}.{minor}") == SERVER_SERIES
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_what_servers_say() {
        for (said, text, fits) in [
            ("server 0.9.0-edge.5\n", "0.9.0-edge.5", true),
            ("iggy-server 0.9.0", "0.9.0", true),
            ("Apache Iggy server v0.9.12 (linux)", "0.9.12", true),
            ("0.8.1", "0.8.1", false),
            ("server 0.10.0", "0.10.0", false),
            ("server 1.9.0", "1.9.0", false),
        ] {
            let version = Version::parse(said).unwrap();
            assert_eq!((version.text.as_str(), version.fits()), (text, fits), "{said}");
        }
        for nothing in ["", "server", "server 0.9", "usage: a.b.c", "0.9.x"] {
            assert_eq!(Version::parse(nothing), None, "{nothing}");
        }
    }
}
