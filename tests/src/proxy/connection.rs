//! One connection: a task for each direction, and the frames that go through them.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use iggy_binary_protocol::HEADER_SIZE;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::plan::{Direction, Pause, Verdict};
use super::state::{ConnectionId, Fate, Held, Parcel, Push, Shared};
use super::wire::{Request, RequestKind, frame_length};

/// What the server takes at most; it hangs up on more, and so do we.
const MAX_REQUEST: usize = 64 * 1024 * 1024;
/// A reply can be longer, since a poll has no limit of bytes. What claims to be longer than this is no reply.
const MAX_REPLY: usize = 512 * 1024 * 1024;
/// How much is read at once when nobody knows yet how much is coming.
const READ: usize = 64 * 1024;

/// Serves a client until one of the two sides ends it.
pub(super) async fn run(
    shared: Arc<Shared>,
    id: ConnectionId,
    client: TcpStream,
    mut cut: watch::Receiver<bool>,
) {
    let server = tokio::select! {
        _ = cut.wait_for(|cut| *cut) => None,
        dialled = dial(&shared, &client) => {
            if dialled.is_err() {
                shared.with(|state| state.counts.unreachable += 1);
            }
            dialled.ok()
        }
    };
    if let Some(server) = server {
        let line =
            Line { shared: Arc::clone(&shared), id, client: Arc::new(client), server: Arc::new(server) };
        carry(line, cut).await;
    }
    shared.end(id);
}

async fn carry(line: Line, mut cut: watch::Receiver<bool>) {
    let (answers, mut to_answer) = mpsc::unbounded_channel();
    let requests = line.clone();
    let mut requests_cut = cut.clone();
    drop(tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = requests_cut.wait_for(|cut| *cut) => {}
            _ = requests.requests(&answers) => requests.shared.client_gone(requests.id),
        }
    }));
    let mut reader = FrameReader::new(MAX_REPLY);
    let ended = tokio::select! {
        biased;
        _ = cut.wait_for(|cut| *cut) => Ok(()),
        ended = line.replies(&mut reader, &mut to_answer) => ended,
    };
    let Line { shared, id, client, server } = line;
    // This is what the client notices; the other task is doing the same.
    drop(client);
    if ended.is_ok() {
        tokio::select! {
            () = shared.stopped() => {}
            () = collect(&shared, id, &server, &mut reader) => {}
        }
    }
}

async fn dial(shared: &Shared, client: &TcpStream) -> io::Result<TcpStream> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(shared.target()).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Takes what the server still owes to a client that is gone.
async fn collect(shared: &Shared, id: ConnectionId, server: &TcpStream, reader: &mut FrameReader) {
    while shared.is_owed(id) {
        match reader.read(server).await {
            Ok(Some(frame)) => drop(shared.replied(id, &frame)),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Lets a held request arrive, and says whether the server has appended it.
pub(super) async fn deliver(shared: &Shared, held: Held) -> bool {
    let (deliverer, replied) = oneshot::channel();
    let key = held.request.key();
    let parcel = Parcel::Held { key, deliverer };
    if send(shared, held.id, &held.server, held.request.frame(), parcel).await.is_err() {
        return false;
    }
    replied.await.is_ok_and(|reply| reply.status == 0)
}

/// Sends a frame in whole, or fails because the connection has ended.
async fn send(
    shared: &Shared,
    id: ConnectionId,
    socket: &TcpStream,
    frame: &[u8],
    parcel: Parcel,
) -> io::Result<()> {
    let direction = parcel.direction();
    // What is late has no network to be slow on.
    let mut unpaced = if matches!(parcel, Parcel::Held { .. }) { usize::MAX } else { 0 };
    let mut parcel = Some(parcel);
    let mut rest = frame;
    loop {
        if unpaced == 0 {
            unpaced = shared.piece(direction, rest.len());
            let first = rest.len() == frame.len();
            shared.pause(Pause::Pace { since: Instant::now(), bytes: unpaced, first }).await;
        }
        socket.writable().await?;
        match shared.push(id, socket, rest, &mut parcel)? {
            Push::Whole => return Ok(()),
            Push::Part(sent) => {
                rest = &rest[sent..];
                unpaced = unpaced.saturating_sub(sent);
            }
            Push::Full => {}
            Push::Ended => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

#[derive(Clone)]
struct Line {
    shared: Arc<Shared>,
    id: ConnectionId,
    client: Arc<TcpStream>,
    server: Arc<TcpStream>,
}

impl Line {
    /// Carries requests until the client hangs up or is cut off.
    async fn requests(&self, answers: &mpsc::UnboundedSender<Bytes>) -> io::Result<()> {
        let mut reader = FrameReader::new(MAX_REQUEST);
        while let Some(frame) = reader.read_unless_stopped(&self.client, &self.shared).await? {
            let came = Instant::now();
            let Some(request) = Request::from_frame(frame.clone()) else {
                // Not anything that the SDK sends. The server has to know what to make of it.
                if !self.shared.swallows(Direction::ToServer) {
                    send(&self.shared, self.id, &self.server, &frame, Parcel::Other(Direction::ToServer))
                        .await?;
                }
                continue;
            };
            self.request(&request, came, answers).await?;
        }
        Ok(())
    }

    async fn request(
        &self,
        request: &Request,
        came: Instant,
        answers: &mpsc::UnboundedSender<Bytes>,
    ) -> io::Result<()> {
        let code = request.code();
        let append = request.kind() == RequestKind::Append;
        self.shared.with(|state| state.received(self.id, code));
        self.shared.pause(Pause::Delay(came)).await;
        if append {
            self.shared.pause(Pause::Slow(came)).await;
        }
        // After the waiting, so that a fault that was switched on during it is met.
        match self.shared.decide(self.id, request, &self.server) {
            Verdict::Forward { lose_reply } => {
                let parcel = Parcel::Request { code, key: request.key(), append, lose_reply };
                send(&self.shared, self.id, &self.server, request.frame(), parcel).await
            }
            Verdict::Answer(reply) => {
                answers.send(reply).map_err(|_| io::ErrorKind::ConnectionAborted.into())
            }
            Verdict::Lose | Verdict::Hold => Err(io::ErrorKind::ConnectionAborted.into()),
            Verdict::Swallow => Ok(()),
        }
    }

    /// Carries replies, the server's and our own, until the client is cut off. Fails when the server has hung up.
    async fn replies(
        &self,
        reader: &mut FrameReader,
        answers: &mut mpsc::UnboundedReceiver<Bytes>,
    ) -> io::Result<()> {
        loop {
            let (frame, parcel) = tokio::select! {
                frame = reader.read_unless_stopped(&self.server, &self.shared) => {
                    let frame = frame?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    match self.shared.replied(self.id, &frame) {
                        Fate::Deliver => (frame, Parcel::Reply),
                        Fate::Drop => continue,
                        Fate::Cut => return Ok(()),
                    }
                }
                Some(answer) = answers.recv() => {
                    if self.shared.swallows(Direction::ToClient) {
                        continue;
                    }
                    (answer, Parcel::Other(Direction::ToClient))
                }
            };
            self.shared.pause(Pause::Delay(Instant::now())).await;
            if send(&self.shared, self.id, &self.client, &frame, parcel).await.is_err() {
                // The client has gone. What it asked for may still be under way.
                self.shared.client_gone(self.id);
                return Ok(());
            }
        }
    }
}

/// Reads whole frames. Dropping a read loses nothing.
struct FrameReader {
    begun: BytesMut,
    longest: usize,
}

impl FrameReader {
    fn new(longest: usize) -> Self {
        Self { begun: BytesMut::new(), longest }
    }

    /// The next frame, or `None` at the end.
    async fn read(&mut self, socket: &TcpStream) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            socket.readable().await?;
            if !self.fill(socket)? {
                return Ok(None);
            }
        }
    }

    /// As [`read`](Self::read), but only while reading is allowed.
    async fn read_unless_stopped(
        &mut self,
        socket: &TcpStream,
        shared: &Shared,
    ) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            shared.pause(Pause::Reading).await;
            socket.readable().await?;
            if shared.reads() && !self.fill(socket)? {
                return Ok(None);
            }
        }
    }

    /// Reads what is there. `false` is the end; what was begun then is torn, and worth nothing to anybody.
    fn fill(&mut self, socket: &TcpStream) -> io::Result<bool> {
        let known = frame_length(&self.begun).unwrap_or(0).min(self.longest);
        self.begun.reserve(known.saturating_sub(self.begun.len()).max(READ));
        match socket.try_read_buf(&mut self.begun) {
            Ok(read) => Ok(read > 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self) -> io::Result<Option<Bytes>> {
        match frame_length(&self.begun) {
            Some(length) if !(HEADER_SIZE..=self.longest).contains(&length) => {
                Err(io::ErrorKind::InvalidData.into())
            }
            Some(length) if self.begun.len() >= length => Ok(Some(self.begun.split_to(length).freeze())),
            _ => Ok(None),
        }
    }
}
