//! Members of a group that are no more.
//!
//! Who is a member of a group is written down in the server's log; who is connected is not. A server that crashes comes
//! back with all members that it had and none of their connections, and since it only removes a member when its
//! connection ends, it never removes these: they keep their partitions, which no consumer reads. No request removes another
//! member from a group, so that such a group is deleted and created again. See [`quirks`](super::quirks).

use iggy::prelude::{
    ClusterClient as _, ConsumerGroupClient as _, Identifier, StreamClient as _, SystemClient as _,
    TopicClient as _,
};

use super::client::Client;
use super::failure::CallError;
use super::groups::GroupId;

/// Who is in a group, and who of them is there.
///
/// One roster proves little: a connection that has just ended may not be off the list yet, and a part of the server that
/// does not answer in time is left out of it without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roster {
    /// The number of the group, which no other group ever gets.
    pub(crate) number: u32,
    members: u32,
    /// How many of the server's connections are members.
    connected: u32,
}

impl Roster {
    /// Whether the group has members without a connection.
    pub(crate) const fn has_stale_members(self) -> bool {
        self.connected < self.members
    }
}

impl Client {
    /// Who is in the group. `None` where that cannot be known: there is no such group, or there is a cluster, whose
    /// other servers have connections of their own.
    pub(crate) async fn roster(&self, group: &GroupId) -> Result<Option<Roster>, CallError> {
        if self.bounded(self.tcp.get_cluster_metadata()).await?.nodes.len() > 1 {
            return Ok(None);
        }
        // The connections first: a member that joins in between is one more, and has a connection at the next look.
        let clients = self.bounded(self.tcp.get_clients()).await?;
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let Some(found) = self.bounded(self.tcp.get_stream(stream)).await? else { return Ok(None) };
        let stream_number = found.id;
        let Some(found) = self.bounded(self.tcp.get_topic(stream, topic)).await? else { return Ok(None) };
        let topic_number = found.id;
        let Some(found) = self.bounded(self.tcp.get_consumer_group(stream, topic, &group.id)).await? else {
            return Ok(None);
        };
        let mut connected = 0;
        for client in clients.iter().filter(|client| client.consumer_groups_count > 0) {
            let client = self.bounded(self.tcp.get_client(client.client_id)).await?;
            let is_member = client.is_some_and(|client| {
                client.consumer_groups.iter().any(|one| {
                    (one.stream_id, one.topic_id, one.group_id) == (stream_number, topic_number, found.id)
                })
            });
            connected += u32::from(is_member);
        }
        Ok(Some(Roster { number: found.id, members: found.members_count, connected }))
    }

    /// Deletes a group that has stale members, so that its members make a new one. By its number: the name may be its
    /// successor's by now, which another member has created.
    pub(crate) async fn recreate_group(&self, roster: Roster) -> Result<(), CallError> {
        self.delete_group_of(&Identifier::numeric(roster.number)?).await
    }
}
