//! Whether a group has started.
//!
//! A group has started when it has a place in every partition. A place is a stored offset, that of the last record that
//! was processed; before the first record, and in a partition without records, none can be stored. There it is the start
//! of the partition if a *marker* says that the group has started: a group without members, whose name is derived from the
//! group's. The server creates it once, however many members ask at the same time, and deletes it with the topic.

use iggy::prelude::Identifier;

use super::client::Client;
use super::failure::CallError;
use super::groups::GroupId;

impl Client {
    pub(crate) async fn is_started(&self, group: &GroupId) -> Result<bool, CallError> {
        Ok(self.members_of(&Identifier::named(&group.started)?).await?.is_some())
    }

    pub(crate) async fn set_started(&self, group: &GroupId) -> Result<(), CallError> {
        self.create_group(&group.started).await.map(drop)
    }

    /// Begins to start the group. `false` when another member does.
    pub(crate) async fn claim_start(&self, group: &GroupId) -> Result<bool, CallError> {
        self.create_group(&group.starting).await
    }

    /// HighWatermarks what [`claim_start`](Self::claim_start) began.
    pub(crate) async fn end_claim(&self, group: &GroupId) -> Result<(), CallError> {
        self.delete_group_of(&Identifier::named(&group.starting)?).await
    }

    /// Forgets that the group has started.
    pub(crate) async fn forget_start(&self, group: &GroupId) -> Result<(), CallError> {
        self.delete_group_of(&Identifier::named(&group.started)?).await?;
        self.end_claim(group).await
    }
}
