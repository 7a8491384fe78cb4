//! What the agent's hooks report.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Error;

use crate::event_type::event_types;
use crate::members::{self, FromMembers, Members};
use crate::raw_json::RawJson;
use crate::unknown::UnknownEvent;
use crate::upcast;

/// One call of a hook script. Older shapes are read too, see [`upcast`].
///
/// ```
/// use vibes_events::HookEvent;
///
/// let json = r#"{"type":"pre_tool_use","session_id":"s","tool_name":"Bash","tool_input":{"command":"ls"}}"#;
/// let event: HookEvent = serde_json::from_str(json)?;
/// assert_eq!(event.session_id(), Some("s"));
///
/// let HookEvent::PreToolUse { tool_input, .. } = &event else { panic!("another event") };
/// assert_eq!(tool_input.to_value()?["command"], "ls");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HookEvent {
    /// A tool is about to be used.
    PreToolUse {
        /// Where the hook ran.
        #[serde(flatten)]
        context: HookContext,
        /// How freely the agent may act.
        permission_mode: Option<String>,
        /// The tool's name.
        tool_name: String,
        /// The tool's arguments.
        tool_input: RawJson,
        /// The id of the call.
        tool_use_id: Option<String>,
    },
    /// A tool has been used.
    PostToolUse {
        /// Where the hook ran.
        #[serde(flatten)]
        context: HookContext,
        /// How freely the agent may act.
        permission_mode: Option<String>,
        /// The tool's name.
        tool_name: String,
        /// The tool's arguments.
        tool_input: Option<RawJson>,
        /// What the tool returned.
        tool_response: RawJson,
        /// The id of the call.
        tool_use_id: Option<String>,
    },
    /// The agent has stopped.
    Stop {
        /// Where the hook ran.
        #[serde(flatten)]
        context: HookContext,
        /// How freely the agent may act.
        permission_mode: Option<String>,
        /// Whether the agent goes on only because such a hook made it.
        stop_hook_active: Option<bool>,
    },
    /// A session starts.
    SessionStart {
        /// Where the hook ran.
        #[serde(flatten)]
        context: HookContext,
        /// The folder of the project.
        project_path: Option<String>,
    },
    /// The user has sent a prompt.
    UserPromptSubmit {
        /// Where the hook ran.
        #[serde(flatten)]
        context: HookContext,
        /// The prompt.
        prompt: Option<String>,
    },
    /// The agent asks whether it may use a tool.
    PermissionRequest {
        /// Where the hook ran.
        #[serde(flatten)]
        context: HookContext,
        /// The tool's name.
        tool_name: Option<String>,
        /// The tool's arguments.
        tool_input: Option<RawJson>,
    },
    /// The agent wants the user's attention.
    Notification {
        /// Where the hook ran.
        #[serde(flatten)]
        context: HookContext,
        /// What it wants, for people.
        message: String,
        /// What it wants, for programs.
        notification_type: Option<NotificationType>,
    },
    /// An agent within the agent has stopped.
    SubagentStop {
        /// Where the hook ran.
        #[serde(flatten)]
        context: HookContext,
        /// How freely the agent may act.
        permission_mode: Option<String>,
        /// Whether the agent goes on only because such a hook made it.
        stop_hook_active: Option<bool>,
        /// The inner agent.
        agent_id: String,
        /// The file with the inner agent's transcript.
        agent_transcript_path: Option<String>,
    },
    /// The conversation is about to be shortened.
    PreCompact {
        /// Where the hook ran.
        #[serde(flatten)]
        context: HookContext,
    },
    /// A session has ended.
    SessionEnd {
        /// Where the hook ran.
        #[serde(flatten)]
        context: HookContext,
        /// Why.
        reason: Option<String>,
    },
    /// An event of a type that this version does not know.
    #[serde(untagged)]
    Unknown(UnknownEvent),
}

event_types!(HookEvent {
    PreToolUse => "pre_tool_use",
    PostToolUse => "post_tool_use",
    Stop => "stop",
    SessionStart => "session_start",
    UserPromptSubmit => "user_prompt_submit",
    PermissionRequest => "permission_request",
    Notification => "notification",
    SubagentStop => "subagent_stop",
    PreCompact => "pre_compact",
    SessionEnd => "session_end",
});

/// The fields that every hook event has, before its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HookContext {
    /// The session.
    pub session_id: Option<String>,
    /// The file with the session's transcript.
    pub transcript_path: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// The hook's name, as the agent spells it.
    pub hook_event_name: Option<String>,
}

/// What a notification is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NotificationType {
    /// The agent waits for a permission.
    PermissionPrompt,
    /// The agent waits for input.
    IdlePrompt,
    /// Something that this version does not know, as it was written.
    #[serde(untagged)]
    Other(String),
}

impl HookEvent {
    /// The fields that it shares with every hook event; `None` for one of an unknown type.
    #[must_use]
    pub fn context(&self) -> Option<&HookContext> {
        match self {
            Self::PreToolUse { context, .. }
            | Self::PostToolUse { context, .. }
            | Self::Stop { context, .. }
            | Self::SessionStart { context, .. }
            | Self::UserPromptSubmit { context, .. }
            | Self::PermissionRequest { context, .. }
            | Self::Notification { context, .. }
            | Self::SubagentStop { context, .. }
            | Self::PreCompact { context }
            | Self::SessionEnd { context, .. } => Some(context),
            Self::Unknown(_) => None,
        }
    }

    /// The session, when the hook knew it.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        match self {
            Self::Unknown(unknown) => unknown.session_id(),
            known => known.context()?.session_id.as_deref(),
        }
    }
}

impl HookContext {
    fn read(fields: &Members) -> Result<Self, Error> {
        Ok(Self {
            session_id: fields.optional("session_id")?,
            transcript_path: fields.optional("transcript_path")?,
            cwd: fields.optional("cwd")?,
            hook_event_name: fields.optional("hook_event_name")?,
        })
    }
}

impl FromMembers for HookEvent {
    fn from_members(event_type: &str, mut fields: Members) -> Result<Self, Error> {
        let old = upcast::old_hook_fields(event_type, |name| fields.contains(name));
        if !old.is_empty() {
            fields.reshape(&old, upcast::hook)?;
        }
        Ok(match event_type {
            "pre_tool_use" => Self::PreToolUse {
                context: HookContext::read(&fields)?,
                permission_mode: fields.optional("permission_mode")?,
                tool_name: fields.required("tool_name")?,
                tool_input: fields.required_json("tool_input")?,
                tool_use_id: fields.optional("tool_use_id")?,
            },
            "post_tool_use" => Self::PostToolUse {
                context: HookContext::read(&fields)?,
                permission_mode: fields.optional("permission_mode")?,
                tool_name: fields.required("tool_name")?,
                tool_input: fields.optional_json("tool_input")?,
                tool_response: fields.required_json("tool_response")?,
                tool_use_id: fields.optional("tool_use_id")?,
            },
            "stop" => Self::Stop {
                context: HookContext::read(&fields)?,
                permission_mode: fields.optional("permission_mode")?,
                stop_hook_active: fields.optional("stop_hook_active")?,
            },
            "session_start" => Self::SessionStart {
                context: HookContext::read(&fields)?,
                project_path: fields.optional("project_path")?,
            },
            "user_prompt_submit" => Self::UserPromptSubmit {
                context: HookContext::read(&fields)?,
                prompt: fields.optional("prompt")?,
            },
            "permission_request" => Self::PermissionRequest {
                context: HookContext::read(&fields)?,
                tool_name: fields.optional("tool_name")?,
                tool_input: fields.optional_json("tool_input")?,
            },
            "notification" => Self::Notification {
                context: HookContext::read(&fields)?,
                message: fields.required("message")?,
                notification_type: fields.optional("notification_type")?,
            },
            "subagent_stop" => Self::SubagentStop {
                context: HookContext::read(&fields)?,
                permission_mode: fields.optional("permission_mode")?,
                stop_hook_active: fields.optional("stop_hook_active")?,
                agent_id: fields.required("agent_id")?,
                agent_transcript_path: fields.optional("agent_transcript_path")?,
            },
            "pre_compact" => Self::PreCompact { context: HookContext::read(&fields)? },
            "session_end" => {
                Self::SessionEnd { context: HookContext::read(&fields)?, reason: fields.optional("reason")? }
            }
            _ => Self::Unknown(UnknownEvent::new(event_type, fields)),
        })
    }
}

impl<'de> Deserialize<'de> for HookEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        members::deserialize(deserializer)
    }
}
