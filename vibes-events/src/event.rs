//! The event itself.

use event_log_core::Partitionable;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Error;

use crate::claude::ClaudeEvent;
use crate::event_type::event_types;
use crate::hook::HookEvent;
use crate::members::{self, FromMembers, Members};
use crate::unknown::UnknownEvent;

/// Something that happened around a coding-agent session.
///
/// Its partition key is its [session](Self::session_id), so that a session's events keep their order; events
/// that belong to none are keyless.
///
/// ```
/// use vibes_events::VibesEvent;
///
/// let event = VibesEvent::SessionCreated { session_id: "s".into(), name: None };
/// let json = serde_json::to_string(&event)?;
/// assert_eq!(json, r#"{"type":"session_created","session_id":"s","name":null}"#);
/// assert_eq!(serde_json::from_str::<VibesEvent>(&json)?, event);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum VibesEvent {
    /// The agent reports.
    Claude {
        /// The session.
        session_id: String,
        /// What it reports.
        event: ClaudeEvent,
    },
    /// The user says something to the agent.
    UserInput {
        /// The session.
        session_id: String,
        /// What the user says.
        content: String,
        /// Where the user said it.
        source: InputSource,
    },
    /// The user answers a [`ClaudeEvent::PermissionRequest`].
    PermissionResponse {
        /// The session.
        session_id: String,
        /// The id of the request.
        request_id: String,
        /// The answer.
        approved: bool,
    },
    /// A session exists from here on.
    SessionCreated {
        /// The session.
        session_id: String,
        /// What people call it.
        name: Option<String>,
    },
    /// A session is in another state now.
    SessionStateChanged {
        /// The session.
        session_id: String,
        /// The new state.
        state: String,
    },
    /// A client of the daemon is there.
    ClientConnected {
        /// The client.
        client_id: String,
    },
    /// A client of the daemon is gone.
    ClientDisconnected {
        /// The client.
        client_id: String,
    },
    /// The tunnel to the outside is in another state now.
    TunnelStateChanged {
        /// The new state.
        state: String,
        /// Where the daemon can be reached, when it can.
        url: Option<String>,
    },
    /// A session has another owner now.
    OwnershipTransferred {
        /// The session.
        session_id: String,
        /// The client that owns it.
        new_owner_id: String,
    },
    /// A session is no more.
    SessionRemoved {
        /// The session.
        session_id: String,
        /// Why.
        reason: String,
    },
    /// A hook of the agent was called.
    Hook {
        /// The session, when the producer knew it.
        session_id: Option<String>,
        /// What the hook reports.
        event: HookEvent,
    },
    /// An event of a type that this version does not know.
    #[serde(untagged)]
    Unknown(UnknownEvent),
}

event_types!(VibesEvent {
    Claude => "claude",
    UserInput => "user_input",
    PermissionResponse => "permission_response",
    SessionCreated => "session_created",
    SessionStateChanged => "session_state_changed",
    ClientConnected => "client_connected",
    ClientDisconnected => "client_disconnected",
    TunnelStateChanged => "tunnel_state_changed",
    OwnershipTransferred => "ownership_transferred",
    SessionRemoved => "session_removed",
    Hook => "hook",
});

/// Where a user's input came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InputSource {
    /// The command line.
    Cli,
    /// The web interface.
    WebUi,
    /// The producer could not say, or did not.
    #[default]
    Unknown,
    /// Something that this version does not know, as it was written.
    #[serde(untagged)]
    Other(String),
}

impl VibesEvent {
    /// The session that the event belongs to, if it belongs to one: for a hook event that of the event, else
    /// that of the hook in it.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        match self {
            Self::Claude { session_id, .. }
            | Self::UserInput { session_id, .. }
            | Self::PermissionResponse { session_id, .. }
            | Self::SessionCreated { session_id, .. }
            | Self::SessionStateChanged { session_id, .. }
            | Self::OwnershipTransferred { session_id, .. }
            | Self::SessionRemoved { session_id, .. } => Some(session_id),
            Self::Hook { session_id, event } => session_id.as_deref().or_else(|| event.session_id()),
            Self::ClientConnected { .. }
            | Self::ClientDisconnected { .. }
            | Self::TunnelStateChanged { .. } => None,
            Self::Unknown(unknown) => unknown.session_id(),
        }
    }
}

impl Partitionable for VibesEvent {
    fn partition_key(&self) -> Option<&str> {
        self.session_id()
    }
}

impl FromMembers for VibesEvent {
    fn from_members(event_type: &str, mut fields: Members) -> Result<Self, Error> {
        Ok(match event_type {
            "claude" => {
                Self::Claude { session_id: fields.required("session_id")?, event: fields.required("event")? }
            }
            "user_input" => Self::UserInput {
                session_id: fields.required("session_id")?,
                content: fields.required("content")?,
                source: fields.optional("source")?,
            },
            "permission_response" => Self::PermissionResponse {
                session_id: fields.required("session_id")?,
                request_id: fields.required("request_id")?,
                approved: fields.required("approved")?,
            },
            "session_created" => Self::SessionCreated {
                session_id: fields.required("session_id")?,
                name: fields.optional("name")?,
            },
            "session_state_changed" => Self::SessionStateChanged {
                session_id: fields.required("session_id")?,
                state: fields.required("state")?,
            },
            "client_connected" => Self::ClientConnected { client_id: fields.required("client_id")? },
            "client_disconnected" => Self::ClientDisconnected { client_id: fields.required("client_id")? },
            "tunnel_state_changed" => {
                Self::TunnelStateChanged { state: fields.required("state")?, url: fields.optional("url")? }
            }
            "ownership_transferred" => Self::OwnershipTransferred {
                session_id: fields.required("session_id")?,
                new_owner_id: fields.required("new_owner_id")?,
            },
            "session_removed" => Self::SessionRemoved {
                session_id: fields.required("session_id")?,
                reason: fields.required("reason")?,
            },
            "hook" => {
                Self::Hook { session_id: fields.optional("session_id")?, event: fields.required("event")? }
            }
            _ => {
                // It belongs to the envelope, which may be put around the event again.
                fields.remove("event_id");
                Self::Unknown(UnknownEvent::new(event_type, fields))
            }
        })
    }
}

impl<'de> Deserialize<'de> for VibesEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        members::deserialize(deserializer)
    }
}
