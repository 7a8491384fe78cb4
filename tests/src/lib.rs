//! What the workspace's cross-backend tests share.

pub mod broken;
pub mod model;
pub mod proxy;
