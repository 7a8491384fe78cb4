//! The event log on [Apache Iggy](https://iggy.apache.org): **not written yet**.
//!
//! This crate is empty on purpose. It holds the place of the backend in the workspace and exports nothing,
//! so that no program can take it for a log. What it will be is written down in the repository's
//! `ARCHITECTURE.md`: an implementation of `event_log_core::engine::Transport` over Iggy's TCP client, to
//! which the engine brings the rest.
