//! NATS JetStream, which is what one would use if it were not Iggy: on a server of its own, with a file store that syncs
//! every message when the topic of the others is durable.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream::{self, consumer, stream};
use async_trait::async_trait;
use event_log_iggy::Durability;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::process::{Child, Command};

use super::{IN_FLIGHT, Producer, all_of, numbers_of};
use crate::Failure;
use crate::bench::Bench;
use crate::event::{enough_for, number_of};
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::Topic;

const START: Duration = Duration::from_secs(10);

/// What a server has on the disk. It goes when this is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which cleans up its temporary files.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// A server for one round. Its process ends before its folder goes.
struct Server {
    child: Child,
    _folder: Folder,
}

/// A `nats-server` on `PATH`.
pub(crate) struct JetStream {
    binary: PathBuf,
}

impl JetStream {
    /// `None` where there is none.
    pub(crate) fn find() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let binary = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
        binary.into_iter().find(|file| file.is_file()).map(|binary| Self { binary })
    }

    /// Starts a server for one round.
    async fn start(&self, name: &str, is_durable: bool) -> Result<(Server, async_nats::Client), Failure> {
        let folder = Folder(std::env::temp_dir().join(format!("{name}-jetstream-{}", std::process::id())));
        let path = &folder.0;
        std::fs::create_dir_all(path)?;
        let mut config = String::new();
        writeln!(config, "listen: 127.0.0.1:-1\nports_file_dir: {path:?}")?;
        writeln!(config, "jetstream {{ store_dir: {:?}", path.join("store"))?;
        if is_durable {
            writeln!(config, "sync_interval: always")?;
        }
        writeln!(config, "}}")?;
        let file = path.join("server.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn()?;
        let id = child.id().ok_or("nats-server has ended")?;
        let ports = path.join(format!("nats-server_{id}.ports"));
        let connected = tokio::time::timeout(START, async {
            loop {
                let ports = std::fs::read_to_string(&ports).unwrap_or_default();
                if let Some(url) = ports.split('"').find(|text| text.starts_with("nats://"))
                    && let Ok(client) = async_nats::connect(url).await
                {
                    return client;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let client = connected.await?;
        Ok((Server { child, _folder: folder }, client))
    }
}

#[async_trait]
impl Producer for JetStream {
    fn name(&self) -> &'static str {
        "NATS JetStream"
    }

    fn what(&self) -> &'static str {
        "publish by 1,024 tasks, each awaiting its acknowledgement; another server, audited there"
    }

    fn is_elsewhere(&self) -> bool {
        true
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let is_durable = topic.durability == Durability::Persisted;
        let (mut server, client) = self.start(&topic.name, is_durable).await?;
        let context = jetstream::new(client);
        let config = stream::Config {
            name: topic.name.clone(),
            subjects: vec![format!("{}.*", topic.name)],
            storage: stream::StorageType::File,
            ..Default::default()
        };
        let stream = context.create_stream(config).await?;
        let each = enough_for(watch.window(), 400_000) / IN_FLIGHT + 1;
        let numbers = |task| numbers_of(task).take(each as usize);
        let ready = (0..IN_FLIGHT).map(|task| {
            let subject = format!("{}.{}", topic.name, bench.events.key(task));
            (subject, numbers(task).map(|number| bench.events.encoded(number)).collect::<Vec<_>>())
        });
        let ready: Vec<_> = ready.collect();
        let deadline = watch.start();
        let tasks = ready.into_iter().map(|(subject, payloads)| {
            let context = context.clone();
            tokio::spawn(async move {
                let (mut payloads, mut sent) = (payloads.into_iter(), 0);
                while !deadline.is_over() {
                    let Some(payload) = payloads.next() else { break };
                    context.publish(subject.clone(), payload).await?.await?;
                    sent += 1;
                }
                Ok::<usize, Failure>(sent)
            })
        });
        let sent = all_of(tasks.collect(), watch).await?;
        audit(&stream, &sent).await?;
        server.child.kill().await?;
        Ok(sent)
    }
}

/// The same audit as for the others, read from there.
async fn audit(stream: &stream::Stream, expected: &Numbers) -> Result<(), Failure> {
    let config = consumer::pull::OrderedConfig::default();
    let mut messages = stream.create_consumer(config).await?.messages().await?.take(expected.len() as usize);
    let mut found = Numbers::default();
    while let Some(message) = messages.try_next().await? {
        let number = number_of(&message.payload).ok_or("a message that is no event")?;
        if !expected.contains(number) || !found.insert(number) {
            return Err(format!("failed audit: event {number} is there twice, or was not confirmed").into());
        }
    }
    Ok(())
}
