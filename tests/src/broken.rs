//! Deliberately broken logs, to prove the conformance suite.
