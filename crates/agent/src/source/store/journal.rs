//! What a host has seen of the store, on disk: for a host that begins without it.
//!
//! A line a commit, `CHECKSUM JSON`: what it costs is what was seen. The first line names the format and the host. A line whose checksum does not hold
//! ends the file: what a dying host did not finish to write is not read. When the lines have become many times what there is, all of it is
//! written anew beside, and takes the place.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use store::{Memory, Seen};
use thiserror::Error;
use tracing::warn;

/// Lines that are longer than all that there is, so many times, are written anew.
const GROWTH: u64 = 4;
/// Below this it is not worth it.
const SMALL: u64 = 1 << 20;
/// More than a host can have to remember.
const LIMIT: u64 = 256 << 20;

/// A file that cannot be used. The host goes on without: it has the store, or nothing.
#[derive(Debug, Error)]
#[error("store cache {path}: {reason}")]
pub(super) struct JournalError {
    path: PathBuf,
    reason: io::Error,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    host: String,
    file: File,
    length: u64,
    /// Length when it was last written as a whole.
    whole: u64,
    memory: Memory,
}

impl Journal {
    /// Reads what is there; without a file, with one of another host or of another format, nothing is.
    pub(super) fn open(path: &Path, host: &str) -> Result<(Self, Memory), JournalError> {
        let failed = |reason| JournalError { path: path.to_owned(), reason };
        let memory = read(path, host).map_err(failed)?;
        let (file, length) = write_whole(path, host, &memory).map_err(failed)?;
        let (path, host) = (path.to_owned(), host.to_owned());
        let journal = Journal { path, host, file, length, whole: length, memory: memory.clone() };
        Ok((journal, memory))
    }

    /// Adds what was seen, which is in force.
    pub(super) fn add(&mut self, seen: &[Seen]) -> Result<(), JournalError> {
        seen.iter().for_each(|seen| self.memory.see(seen));
        self.write(seen).map_err(|reason| JournalError { path: self.path.clone(), reason })
    }

    /// What cannot be written any more is not to be read later: it would be older than what was in force.
    pub(super) fn give_up(path: &Path) {
        for path in [path.to_owned(), path.with_extension("new")] {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                warn!(path = %path.display(), %error, "an old store cache stays");
            }
        }
    }

    fn write(&mut self, seen: &[Seen]) -> io::Result<()> {
        let line = line(seen)?;
        self.length += line.len() as u64;
        if self.length > SMALL.max(self.whole * GROWTH).min(LIMIT) {
            (self.file, self.length) = write_whole(&self.path, &self.host, &self.memory)?;
            self.whole = self.length;
            return Ok(());
        }
        self.file.write_all(&line)
    }
}

fn header(host: &str) -> String {
    format!("sgflow store cache 1 of {host}\n")
}

fn line(seen: &[Seen]) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(seen)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn write_whole(path: &Path, host: &str, memory: &Memory) -> io::Result<(File, u64)> {
    let beside = path.with_extension("new");
    let mut bytes = header(host).into_bytes();
    bytes.extend(line(&Memory::default().until(memory))?);
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other(format!("would be longer than {LIMIT} bytes")));
    }
    let mut file = File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let file = OpenOptions::new().append(true).open(path)?;
    Ok((file, bytes.len() as u64))
}

fn read(path: &Path, host: &str) -> io::Result<Memory> {
    let mut memory = Memory::default();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(memory),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() > LIMIT {
        return Err(io::Error::other(format!("is longer than {LIMIT} bytes")));
    }
    let mut reader = BufReader::new(file);
    let mut text = Vec::new();
    reader.read_until(b'\n', &mut text)?;
    if text != header(host).as_bytes() {
        warn!(path = %path.display(), "the store cache is not this host's, or of another version; it is not read");
        return Ok(memory);
    }
    for number in 2.. {
        text.clear();
        if reader.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        let Some(seen) = read_line(&text) else {
            warn!(path = %path.display(), line = number, "the store cache is damaged; it is read up to there");
            break;
        };
        seen.iter().for_each(|seen| memory.see(seen));
    }
    Ok(memory)
}

fn read_line(line: &[u8]) -> Option<Vec<Seen>> {
    let (checksum, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let checksum = std::str::from_utf8(checksum).ok()?.strip_suffix(' ')?;
    let checksum = u32::from_str_radix(checksum, 16).ok()?;
    (checksum == crc32fast::hash(json)).then(|| serde_json::from_slice(json).ok())?
}

#[cfg(test)]
mod tests {
    use store::{GroupHead, Now, SetChange};

    use super::*;

    fn group(id: &str, added: &[&str], removed: &[&str]) -> Seen {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Seen::Group {
            id: id.into(),
            head: Some(Now::Is(GroupHead::default())),
            members: SetChange { added: texts(added), removed: texts(removed) },
        }
    }

    fn memory(seen: &[Seen]) -> Memory {
        let mut memory = Memory::default();
        seen.iter().for_each(|seen| memory.see(seen));
        memory
    }

    #[test]
    fn what_was_seen_is_there_again_up_to_where_the_file_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        let (mut journal, before) = Journal::open(&path, "h").unwrap();
        assert_eq!(before, Memory::default());
        let first = [group("g", &["10.0.0.1", "10.0.0.2"], &[])];
        let second = [group("g", &["10.0.0.3"], &["10.0.0.1"])];
        journal.add(&first).unwrap();
        let until_first = std::fs::read(&path).unwrap();
        journal.add(&second).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let both = memory(&[first.to_vec(), second.to_vec()].concat());
        assert_eq!(Journal::open(&path, "h").unwrap().1, both);
        for cut in until_first.len()..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(Journal::open(&path, "h").unwrap().1, memory(&first), "cut at {cut}");
        }
        let mut flipped = whole.clone();
        *flipped.last_chunk_mut::<20>().unwrap().first_mut().unwrap() ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert_eq!(Journal::open(&path, "h").unwrap().1, memory(&first));
        std::fs::write(&path, whole).unwrap();
        assert_eq!(Journal::open(&path, "other").unwrap().1, Memory::default());
    }

    #[test]
    fn a_full_disk_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(&directory.path().join("cache"), "h").unwrap();
        journal.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = journal.add(&[group("g", &["10.0.0.1"], &[])]).unwrap_err();
        assert!(error.to_string().ends_with("cache: No space left on device (os error 28)"), "{error}");
    }

    #[test]
    fn the_file_stays_a_few_times_what_there_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        let (mut journal, _) = Journal::open(&path, "h").unwrap();
        let long = "x".repeat(100_000);
        for round in 0..200 {
            let gone = format!("{long}{}", round - 1);
            journal.add(&[group("g", &[&format!("{long}{round}")], &[&gone])]).unwrap();
            assert!(std::fs::metadata(&path).unwrap().len() <= SMALL + 300_000);
        }
        assert_eq!(
            Journal::open(&path, "h").unwrap().1,
            memory(&[group("g", &[&format!("{long}199")], &[])])
        );
    }
}
