//! What a log on Apache Iggy is opened with.

mod endpoint;

pub use self::endpoint::{Credentials, Endpoint, Tls};
