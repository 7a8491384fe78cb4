//! What the agent itself reports.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Error;

use crate::event_type::event_types;
use crate::members::{self, FromMembers, Members};
use crate::unknown::UnknownEvent;

/// One event of the agent's own stream.
///
/// ```
/// use vibes_events::ClaudeEvent;
///
/// let event: ClaudeEvent = serde_json::from_str(r#"{"type":"text_delta","text":"Hi"}"#)?;
/// assert_eq!(event, ClaudeEvent::TextDelta { text: "Hi".into() });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClaudeEvent {
    /// A piece of the answer.
    TextDelta {
        /// The text, to be put after what came before.
        text: String,
    },
    /// A piece of the reasoning.
    ThinkingDelta {
        /// The text, to be put after what came before.
        text: String,
    },
    /// The agent begins to call a tool.
    ToolUseStart {
        /// Names the call in what follows.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// A piece of a tool's arguments.
    ToolInputDelta {
        /// The call's id.
        id: String,
        /// A piece of JSON text; not JSON by itself.
        delta: String,
    },
    /// A tool has returned.
    ToolResult {
        /// The call's id.
        id: String,
        /// What it returned.
        output: String,
        /// Whether it failed.
        is_error: bool,
    },
    /// The agent takes its turn.
    TurnStart,
    /// The agent's turn is over.
    TurnComplete {
        /// What it cost.
        usage: Usage,
    },
    /// Something failed.
    Error {
        /// What, for people.
        message: String,
        /// Whether the session can go on.
        recoverable: bool,
    },
    /// The agent asks whether it may use a tool.
    PermissionRequest {
        /// Names the request in its answer.
        id: String,
        /// The tool's name.
        tool: String,
        /// What it would do, for people.
        description: String,
    },
    /// An event of a type that this version does not know.
    #[serde(untagged)]
    Unknown(UnknownEvent),
}

event_types!(ClaudeEvent {
    TextDelta => "text_delta",
    ThinkingDelta => "thinking_delta",
    ToolUseStart => "tool_use_start",
    ToolInputDelta => "tool_input_delta",
    ToolResult => "tool_result",
    TurnStart => "turn_start",
    TurnComplete => "turn_complete",
    Error => "error",
    PermissionRequest => "permission_request",
});

/// The tokens of one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u32,
    /// Tokens written.
    pub output_tokens: u32,
}

impl FromMembers for ClaudeEvent {
    fn from_members(event_type: &str, fields: Members) -> Result<Self, Error> {
        Ok(match event_type {
            "text_delta" => Self::TextDelta { text: fields.required("text")? },
            "thinking_delta" => Self::ThinkingDelta { text: fields.required("text")? },
            "tool_use_start" => {
                Self::ToolUseStart { id: fields.required("id")?, name: fields.required("name")? }
            }
            "tool_input_delta" => {
                Self::ToolInputDelta { id: fields.required("id")?, delta: fields.required("delta")? }
            }
            "tool_result" => Self::ToolResult {
                id: fields.required("id")?,
                output: fields.required("output")?,
                is_error: fields.required("is_error")?,
            },
            "turn_start" => Self::TurnStart,
            "turn_complete" => Self::TurnComplete { usage: fields.required("usage")? },
            "error" => Self::Error {
                message: fields.required("message")?,
                recoverable: fields.required("recoverable")?,
            },
            "permission_request" => Self::PermissionRequest {
                id: fields.required("id")?,
                tool: fields.required("tool")?,
                description: fields.required("description")?,
            },
            _ => Self::Unknown(UnknownEvent::new(event_type, fields)),
        })
    }
}

impl<'de> Deserialize<'de> for ClaudeEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        members::deserialize(deserializer)
    }
}
