//! What the workspace's cross-backend tests share.

pub mod broken;
pub mod chaos;
pub mod disk;
pub mod equal;
pub mod fuzz;
pub mod group_life;
pub mod iggy;
pub mod journal;
pub mod model;
pub mod proxy;
