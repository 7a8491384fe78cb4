//! One partition: a file, and where each record is in it.

use std::io;

use event_log_core::engine::{FetchRequest, FetchResponse, Message, StoredMessage, foreign_id};
use event_log_core::{EventId, Headers, Offset, PartitionId, PartitionWatermarks, Position, Timestamp};

use super::JournalBug;
use super::disk::Disk;
use super::frame::{self, Parts};

/// The only log that there is.
const JOURNAL: &str = "journal";

const RECORD: u8 = 0;
const PURGED: u8 = 1;
const BEGAN_AGAIN: u8 = 2;
const NOTHING: u8 = 3;

#[derive(Debug)]
pub(super) struct Partition {
    id: PartitionId,
    file: String,
    records: Vec<Place>,
    low: u64,
    next: u64,
    /// Offsets that the next append leaves out.
    gap: u64,
    incarnation: u64,
    /// The time of the last append: time does not go back within a partition.
    latest: Timestamp,
    bug: Option<JournalBug>,
}

/// A record in the file.
#[derive(Debug)]
struct Place {
    offset: u64,
    id: EventId,
    timestamp: Timestamp,
    /// Payload and headers.
    bytes: usize,
    at: u64,
    len: usize,
}

impl Partition {
    /// Reads the file, and cuts off what a crash has left half written.
    pub(super) fn open(disk: &mut Disk, id: PartitionId, bug: Option<JournalBug>) -> io::Result<Self> {
        let file = format!("partition-{}", id.0);
        let bytes = disk.read(&file)?;
        let (records, latest) = (Vec::new(), Timestamp(0));
        let mut opened = Self { id, file, records, low: 0, next: 0, gap: 0, incarnation: 0, latest, bug };
        let mut at = 0;
        while let Some(body) = frame::body(&bytes[at..], bug != Some(JournalBug::ChecksumIgnored)) {
            opened.replay(at as u64, body);
            at += frame::HEAD + body.len();
        }
        if at < bytes.len() && bug != Some(JournalBug::TornTailKept) {
            disk.truncate(&opened.file, at as u64)?;
        }
        if bug == Some(JournalBug::OffsetsCounted) {
            opened.next = opened.records.len() as u64;
        }
        Ok(opened)
    }

    fn replay(&mut self, at: u64, body: &[u8]) {
        let mut parts = Parts(body);
        match parts.byte() {
            Some(RECORD) => {
                if let Some(record) = self.decode(parts) {
                    self.index(&record, at, body.len());
                } else if self.bug == Some(JournalBug::ChecksumIgnored) {
                    let garbage = self.garbage(body);
                    self.index(&garbage, at, body.len());
                }
            }
            Some(NOTHING) => self.next += parts.u64().unwrap_or_default(),
            Some(PURGED) => self.forget(),
            Some(BEGAN_AGAIN) => self.forget_all(),
            _ => {}
        }
    }

    fn garbage(&self, body: &[u8]) -> StoredMessage {
        StoredMessage {
            offset: Offset(self.next),
            id: foreign_id(JOURNAL, Position::new(self.id, Offset(self.next)), self.latest),
            timestamp: self.latest,
            headers: Headers::new(),
            payload: body.to_vec().into(),
        }
    }

    fn index(&mut self, record: &StoredMessage, at: u64, len: usize) {
        let StoredMessage { offset, id, timestamp, .. } = *record;
        let place = Place { offset: offset.0, id, timestamp, bytes: record.bytes(), at, len };
        self.records.push(place);
        (self.next, self.latest) = (offset.0 + 1, timestamp);
    }

    fn decode(&self, mut parts: Parts<'_>) -> Option<StoredMessage> {
        let offset = Offset(parts.u64()?);
        let timestamp = Timestamp(parts.u64()?);
        let id = match parts.u128()? {
            0 => foreign_id(JOURNAL, Position::new(self.id, offset), timestamp),
            id => EventId::from_u128(id),
        };
        let mut headers = Headers::new();
        for _ in 0..parts.u32()? {
            headers.insert(&parts.text()?, parts.bytes()?).ok()?;
        }
        Some(StoredMessage { offset, id, timestamp, headers, payload: parts.bytes()? })
    }

    fn encode(&self, record: &StoredMessage) -> Vec<u8> {
        let id = if self.bug == Some(JournalBug::IdsForgotten) { 0 } else { record.id.as_u128() };
        let mut body = vec![RECORD];
        body.extend(record.offset.0.to_le_bytes());
        body.extend(record.timestamp.0.to_le_bytes());
        body.extend(id.to_le_bytes());
        let headers =
            if self.bug == Some(JournalBug::HeadersLost) { Headers::new() } else { record.headers.clone() };
        body.extend(u32::try_from(headers.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (name, value) in headers.iter() {
            frame::put(&mut body, name.as_bytes());
            frame::put(&mut body, value);
        }
        frame::put(&mut body, &record.payload);
        body
    }

    /// Appends, and syncs it. Returns the offset of the first.
    pub(super) fn append(
        &mut self,
        disk: &mut Disk,
        messages: &[Message],
        now: Timestamp,
    ) -> io::Result<Offset> {
        self.next += std::mem::take(&mut self.gap);
        let base = Offset(self.next);
        self.latest = self.latest.max(now);
        let mut frames = Vec::new();
        let mut placed = Vec::new();
        for (message, offset) in messages.iter().zip(base.0..) {
            let record = StoredMessage {
                offset: Offset(offset),
                id: message.id,
                timestamp: self.latest,
                headers: message.headers.clone(),
                payload: message.payload.clone(),
            };
            let body = self.encode(&record);
            placed.push((record, frames.len() as u64, body.len()));
            frames.extend(frame::frame(&body));
        }
        let at = disk.append(&self.file, &frames)?;
        self.sync(disk, JournalBug::NoSyncBeforeAck)?;
        for (record, behind, len) in placed {
            self.index(&record, at + behind, len);
        }
        Ok(base)
    }

    /// What a producer that does not use this library appends: a message without an id.
    pub(super) fn foreign(&self, payload: bytes::Bytes, now: Timestamp) -> Message {
        let offset = Offset(self.next + self.gap);
        let id = foreign_id(JOURNAL, Position::new(self.id, offset), self.latest.max(now));
        Message { id, headers: Headers::new(), payload }
    }

    /// Leaves a part of a record behind the last one, as a process does that is killed while it writes.
    pub(super) fn tear(&self, disk: &mut Disk, garbled: bool) -> io::Result<()> {
        let mut torn = self.garbage(b"half of it");
        torn.id = EventId::from_u128(1);
        let mut frame = frame::frame(&self.encode(&torn));
        if garbled {
            let last = frame.len() - 4;
            frame[last..].fill(b'?');
        } else {
            frame.truncate(frame.len() - 4);
        }
        disk.append(&self.file, &frame).map(drop)
    }

    fn sync(&self, disk: &mut Disk, unless: JournalBug) -> io::Result<()> {
        if self.bug == Some(unless) { Ok(()) } else { disk.sync(&self.file) }
    }

    pub(super) fn skip_offsets(&mut self, count: u64) {
        self.gap += count;
    }

    /// Uses up offsets behind the last record.
    pub(super) fn trailing_gap(&mut self, disk: &mut Disk, count: u64) -> io::Result<()> {
        self.next += count;
        let mut body = vec![NOTHING];
        body.extend(count.to_le_bytes());
        disk.append(&self.file, &frame::frame(&body))?;
        disk.sync(&self.file)
    }

    /// Removes all records; the offsets go on.
    pub(super) fn purge(&mut self, disk: &mut Disk) -> io::Result<()> {
        self.forget();
        if self.bug == Some(JournalBug::PurgeInMemory) {
            return Ok(());
        }
        disk.append(&self.file, &frame::frame(&[PURGED]))?;
        disk.sync(&self.file)
    }

    /// Removes all records; the offsets begin again at 0.
    pub(super) fn begin_again(&mut self, disk: &mut Disk) -> io::Result<()> {
        self.forget_all();
        disk.append(&self.file, &frame::frame(&[BEGAN_AGAIN]))?;
        disk.sync(&self.file)
    }

    fn forget(&mut self) {
        self.records.clear();
        self.low = self.next;
    }

    fn forget_all(&mut self) {
        (self.next, self.gap, self.incarnation) = (0, 0, self.incarnation + 1);
        self.forget();
    }

    pub(super) const fn watermarks(&self) -> PartitionWatermarks {
        PartitionWatermarks { low: Offset(self.low), high: Offset(self.next) }
    }

    pub(super) const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(super) fn offset_at(&self, time: Timestamp) -> Offset {
        let nth = self.records.partition_point(|place| place.timestamp < time);
        Offset(self.records.get(nth).map_or(self.next, |place| place.offset))
    }

    pub(super) fn fetch(&self, disk: &mut Disk, request: FetchRequest) -> io::Result<FetchResponse> {
        let FetchRequest { from, after, max_records, max_bytes, .. } = request;
        let truncated = self.bug != Some(JournalBug::LandmarkIgnored)
            && after.is_some_and(|known| {
                let there = self.records.binary_search_by_key(&known.offset.0, |place| place.offset);
                there.is_ok_and(|nth| self.records[nth].id != known.id)
            });
        let mut first = self.records.partition_point(|place| place.offset < from.0);
        if self.bug == Some(JournalBug::FetchSkipsOne) && first > 0 && first % 16 == 0 {
            first += 1;
        }
        let (mut records, mut bytes) = (Vec::new(), 0_usize);
        let mut scanned_to = self.next.max(from.0);
        for place in self.records.iter().skip(first) {
            bytes = bytes.saturating_add(place.bytes);
            let too_many = records.len() >= max_records && self.bug != Some(JournalBug::FetchIgnoresRecords);
            let too_long = bytes > max_bytes && self.bug != Some(JournalBug::FetchIgnoresBytes);
            if too_many || (too_long && !records.is_empty()) {
                scanned_to = place.offset;
                break;
            }
            records.push(self.read(disk, place)?);
        }
        Ok(FetchResponse {
            records,
            low: Some(Offset(self.low)),
            high: Some(Offset(self.next)),
            truncated,
            incarnation: Some(self.incarnation),
            scanned_to: Some(Offset(scanned_to)),
        })
    }

    fn read(&self, disk: &mut Disk, place: &Place) -> io::Result<StoredMessage> {
        let limit = if self.bug == Some(JournalBug::LargeRecordsCut) { 64 << 10 } else { usize::MAX };
        let bytes = disk.read_at(&self.file, place.at, (frame::HEAD + place.len).min(limit))?;
        let checked = self.bug != Some(JournalBug::ChecksumIgnored);
        let body = frame::body(&bytes, checked);
        let read = body.and_then(|body| {
            let decoded = self.decode(Parts(body.get(1..)?));
            if checked { decoded } else { decoded.or_else(|| Some(self.garbage(body))) }
        });
        read.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the record is not what was written"))
    }
}
