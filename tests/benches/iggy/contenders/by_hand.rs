//! What one would write by hand on the SDK: a channel, a task that groups and sends what has come, and a channel back
//! for each event. It has no bounds, no recovery, no ids that survive a retry, and loses what it holds with its
//! connection: it shows what a task for each append costs at least.

use std::sync::Arc;

use async_trait::async_trait;
use iggy::prelude::IggyMessage;
use tokio::sync::{mpsc, oneshot};

use super::{IN_FLIGHT, Producer, all_of, numbers_of};
use crate::Failure;
use crate::bench::Bench;
use crate::event::PARTITIONS;
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::{Raw, Topic};

/// A channel, a task and channels back.
pub(crate) struct ByHand;

/// An event on its way, and whom to tell.
type Waiting = (u32, IggyMessage, oneshot::Sender<()>);

#[async_trait]
impl Producer for ByHand {
    fn name(&self) -> &'static str {
        "by hand"
    }

    fn what(&self) -> &'static str {
        "1,024 tasks, serde_json, a channel, a task that groups and sends, channels back; nothing is ever recovered"
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let (sender, inbox) = mpsc::channel(IN_FLIGHT as usize);
        let deadline = watch.start();
        let writer = tokio::spawn(write(Arc::clone(&bench.raw), topic.clone(), inbox));
        let tasks = (0..IN_FLIGHT).map(|task| {
            let (sender, events, partition) =
                (sender.clone(), Arc::clone(&bench.events), bench.events.partition(task));
            tokio::spawn(async move {
                let mut appended = 0;
                for number in numbers_of(task).take_while(|_| !deadline.is_over()) {
                    let message = events.message(number)?;
                    let (done, is_done) = oneshot::channel();
                    sender.send((partition, message, done)).await?;
                    is_done.await?;
                    appended += 1;
                }
                Ok::<_, Failure>(appended)
            })
        });
        let tasks: Vec<_> = tasks.collect();
        drop(sender);
        let appended = all_of(tasks, watch).await?;
        writer.await??;
        Ok(appended)
    }
}

async fn write(raw: Arc<Raw>, topic: Topic, mut inbox: mpsc::Receiver<Waiting>) -> Result<(), Failure> {
    let mut taken = Vec::new();
    while inbox.recv_many(&mut taken, IN_FLIGHT as usize).await > 0 {
        let mut groups: Vec<(Vec<IggyMessage>, Vec<oneshot::Sender<()>>)> =
            (0..PARTITIONS).map(|_| Default::default()).collect();
        for (partition, message, done) in taken.drain(..) {
            let (messages, waiting) = &mut groups[partition as usize];
            messages.push(message);
            waiting.push(done);
        }
        for ((mut messages, waiting), partition) in groups.into_iter().zip(0..) {
            if !messages.is_empty() {
                raw.send(&topic, partition, &mut messages).await?;
                // Whoever has stopped waiting does not want to know.
                for done in waiting {
                    let _gone = done.send(());
                }
            }
        }
    }
    Ok(())
}
