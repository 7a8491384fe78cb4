//! What an operator has to do with the folder of a server that ended in the middle of a write, before it is started again.
//!
//! A full disk, and more rarely a `kill -9` amid appends, leaves a torn batch at the end of a segment. It was not
//! confirmed, and the server (0.9.0) passes over it when it starts; but what it appends afterwards, and confirms, it
//! cannot find again on either side of another start, or it refuses to start at all. So the torn end has to go first.
//!
//! It also makes the files of a partition one after the other, a while after it has confirmed the topic. If it is killed
//! between the two, it refuses to start without the index of an empty segment, which has to be made.
//!
//! Nothing else is touched: what was confirmed is in whole batches.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use event_log_iggy::server::IggyServer;
use iggy_binary_protocol::batch::{BATCH_HEADER_SIZE, BatchHeader};

/// The size of an entry of the index that is beside each segment.
const INDEX_ENTRY: u64 = 24;

/// Mends the folder of a server that is down, and starts it again.
///
/// # Errors
///
/// When a file cannot be read or written, or the server does not start.
pub async fn mend_and_start(server: &IggyServer) -> Result<(), Box<dyn Error + Send + Sync>> {
    mend_segments(server.data_folder())?;
    server.start_again().await?;
    Ok(())
}

/// Cuts the torn ends off, and makes what is missing. Returns how many files that were.
fn mend_segments(folder: &Path) -> io::Result<usize> {
    let mut mended = 0;
    for segment in segments(&folder.join("local_data/streams"))? {
        let whole = whole_batches(&File::open(&segment)?)?;
        mended += usize::from(cut_to(&segment, whole)?);
        let index = segment.with_extension("index");
        match fs::metadata(&index) {
            Ok(found) => mended += usize::from(cut_to(&index, found.len() / INDEX_ENTRY * INDEX_ENTRY)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound && whole == 0 => {
                File::create_new(&index)?.sync_all()?;
                mended += 1;
            }
            // A segment with something in it has lost its index: that is not what a kill leaves.
            Err(error) => return Err(error),
        }
    }
    Ok(mended)
}

/// Every segment below a folder.
fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(segments(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Where the last batch ends that is there from its first byte to its last.
fn whole_batches(segment: &File) -> io::Result<u64> {
    let (length, mut position) = (segment.metadata()?.len(), 0);
    let mut header = [0; BATCH_HEADER_SIZE];
    while position + BATCH_HEADER_SIZE as u64 <= length {
        segment.read_exact_at(&mut header, position)?;
        let Ok(header) = BatchHeader::decode(&header) else { break };
        match position.checked_add(header.batch_length) {
            Some(end) if end <= length => position = end,
            _ => break,
        }
    }
    Ok(position)
}

fn cut_to(path: &Path, length: u64) -> io::Result<bool> {
    let file = OpenOptions::new().write(true).open(path)?;
    let is_longer = file.metadata()?.len() > length;
    if is_longer {
        file.set_len(length)?;
        file.sync_all()?;
    }
    Ok(is_longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_batches_stay_torn_ends_go_and_an_empty_index_comes() {
        let folder = std::env::temp_dir().join(format!("event-log-torn-{}", std::process::id()));
        let partition = folder.join("local_data/streams/0/topics/0/partitions/0");
        fs::create_dir_all(&partition).expect("a folder");
        let segment = partition.join("00000000000000000000.log");
        let mut batch = vec![0; BATCH_HEADER_SIZE + 100];
        BatchHeader::new(0, 0, batch.len() as u64, 1).encode_into(&mut batch);
        for torn in [1, BATCH_HEADER_SIZE, BATCH_HEADER_SIZE + 99] {
            let whole = [&batch[..], &batch[..]].concat();
            fs::write(&segment, [&whole, &batch[..torn]].concat()).expect("a segment");
            fs::write(segment.with_extension("index"), [7; 50]).expect("an index");
            assert_eq!(mend_segments(&folder).expect("it can be mended"), 2);
            assert_eq!(fs::read(&segment).expect("it is there"), whole);
            assert_eq!(fs::read(segment.with_extension("index")).expect("it is there"), [7; 48]);
            assert_eq!(mend_segments(&folder).expect("it can be mended"), 0, "once is enough");
        }
        let begun = partition.join("00000000000000000009.log");
        fs::write(&begun, []).expect("an empty segment");
        assert_eq!(mend_segments(&folder).expect("it can be mended"), 1);
        assert_eq!(fs::read(begun.with_extension("index")).expect("it is there"), [0; 0]);
        assert_eq!(mend_segments(&folder).expect("it can be mended"), 0, "once is enough");
        fs::remove_file(segment.with_extension("index")).expect("it can be removed");
        assert!(mend_segments(&folder).is_err(), "an index that was lost is not made up");
        fs::remove_dir_all(&folder).expect("it can be removed");
    }
}
