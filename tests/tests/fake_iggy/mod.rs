//! As much of an Iggy server and of its clients as the proxy can tell apart from the real ones.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use event_log_core::PartitionId;
use event_log_tests::proxy::wire::{Reply, Request};
use iggy_binary_protocol::requests::consumer_offsets::StoreConsumerOffsetRequest;
use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_binary_protocol::{
    AckLevel, HEADER_SIZE, WireConsumer, WireEncode, WireIdentifier, WirePollingStrategy, codes,
    read_size_field,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It answers.
    Answers,
    /// It takes it in, and answers once the mood is another.
    Thinks,
    /// It refuses it.
    Refuses(u32),
}

/// What came in: on which connection, counted from 0, and what.
pub(crate) type Arrival = (usize, u32, u64);

/// A server that writes down what it gets, and echoes its body.
#[derive(Debug)]
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    pub(crate) mood: watch::Sender<Mood>,
    arrivals: watch::Sender<Vec<Arrival>>,
    /// How many connections have ended, of which how many within a frame.
    ended: watch::Sender<(usize, usize)>,
}

impl FakeServer {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let server = Arc::new(Self {
            address: listener.local_addr().expect("it listens"),
            mood: watch::Sender::new(Mood::Answers),
            arrivals: watch::Sender::new(Vec::new()),
            ended: watch::Sender::new((0, 0)),
        });
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            for connection in 0.. {
                let (socket, _) = listener.accept().await.expect("clients come");
                let serving = Arc::clone(&serving);
                tokio::spawn(async move {
                    let torn = serving.serve(connection, socket).await;
                    serving.ended.send_modify(|(all, within)| {
                        *all += 1;
                        *within += usize::from(torn);
                    });
                });
            }
        });
        server
    }

    /// Whether the connection has ended within a frame.
    async fn serve(&self, connection: usize, mut socket: TcpStream) -> bool {
        loop {
            let frame = match read_frame(&mut socket).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return false,
                Err(_) => return true,
            };
            let request = Request::from_frame(frame).expect("clients send requests");
            let arrival = (connection, request.code(), request.key().request);
            self.arrivals.send_modify(|arrivals| arrivals.push(arrival));
            let mut mood = self.mood.subscribe();
            let mood = *mood.wait_for(|mood| *mood != Mood::Thinks).await.expect("the sender is ours");
            let reply = match mood {
                Mood::Refuses(status) => request.refusal(status),
                _ => request.answer(&request.frame()[HEADER_SIZE..]),
            };
            if socket.write_all(&reply).await.is_err() {
                return false;
            }
        }
    }

    /// Everything that has come in whole, in order.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.borrow().clone()
    }

    /// The numbers of the appends that have come in whole, in order.
    pub(crate) fn appended(&self) -> Vec<u64> {
        let appends = self.arrivals().into_iter().filter(|(_, code, _)| *code == codes::SEND_MESSAGES_CODE);
        appends.map(|(_, _, number)| number).collect()
    }

    pub(crate) async fn arrived(&self, count: usize) {
        let mut arrivals = self.arrivals.subscribe();
        arrivals.wait_for(|arrivals| arrivals.len() >= count).await.expect("the sender is ours");
    }

    /// Waits for so many connections to have ended, and returns how many of all have ended within a frame.
    pub(crate) async fn ended(&self, count: usize) -> usize {
        let mut ended = self.ended.subscribe();
        ended.wait_for(|(all, _)| *all >= count).await.expect("the sender is ours").1
    }
}

async fn read_frame(socket: &mut TcpStream) -> io::Result<Option<Bytes>> {
    let mut frame = vec![0; HEADER_SIZE];
    let begun = socket.read(&mut frame).await?;
    if begun == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut frame[begun..]).await?;
    frame.resize(read_size_field(&frame).expect("there is a header") as usize, 0);
    socket.read_exact(&mut frame[HEADER_SIZE..]).await?;
    Ok(Some(frame.into()))
}

/// A client with one request under way.
#[derive(Debug)]
pub(crate) struct FakeClient {
    socket: TcpStream,
}

/// A reply: its status and its body.
pub(crate) type Answer = (u32, Bytes);

impl FakeClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(address).await.expect("somebody listens") }
    }

    pub(crate) async fn send(&mut self, request: &Request) {
        // An error shows when the reply is read.
        let _ = self.socket.write_all(request.frame()).await;
    }

    /// Fails when the connection is over.
    pub(crate) async fn reply(&mut self) -> io::Result<Answer> {
        let frame = read_frame(&mut self.socket).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let reply = Reply::from_frame(&frame).expect("servers send replies");
        Ok((reply.status, frame.slice(HEADER_SIZE..)))
    }

    pub(crate) async fn call(&mut self, request: &Request) -> io::Result<Answer> {
        self.send(request).await;
        self.reply().await
    }
}

pub(crate) fn append(number: u64) -> Request {
    Request::new(codes::SEND_MESSAGES_CODE, number, b"messages")
}

pub(crate) fn ping() -> Request {
    Request::new(codes::PING_CODE, 0, b"")
}

pub(crate) fn poll(partition: PartitionId) -> Request {
    let poll = PollMessagesRequest {
        consumer: WireConsumer::consumer(WireIdentifier::numeric(1)),
        stream_id: WireIdentifier::numeric(1),
        topic_id: WireIdentifier::numeric(1),
        partition_id: Some(partition.0),
        strategy: WirePollingStrategy::offset(0),
        count: 10,
        auto_commit: false,
    };
    Request::new(codes::POLL_MESSAGES_CODE, 0, &poll.to_bytes())
}

pub(crate) fn store(partition: PartitionId, number: u64) -> Request {
    let store = StoreConsumerOffsetRequest {
        consumer: WireConsumer::consumer(WireIdentifier::numeric(1)),
        stream_id: WireIdentifier::numeric(1),
        topic_id: WireIdentifier::numeric(1),
        partition_id: Some(partition.0),
        offset: 3,
        ack: AckLevel::Quorum,
    };
    Request::new(codes::STORE_CONSUMER_OFFSET_CODE, number, &store.to_bytes())
}
