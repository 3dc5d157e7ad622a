//! Where the lines of the security-group log go: a file of JSON lines, or the journal. On a thread of its own, so that a disk that hangs keeps
//! nobody but the log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use serde_json::Value;
use tracing::{info, warn};

/// Lines that wait to be written; more are counted and lost.
const WAITING: usize = 1024;
/// Addresses of tenants are nobody else's business.
const MODE: u32 = 0o640;
/// Where journald listens (systemd's "Native Journal Protocol").
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where a log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// To the end of this file, one JSON object a line. Who renames the file gets a new one.
    File(PathBuf),
    /// To the journal of systemd, with the fields of the object as `SGFLOW_…`.
    Journal,
}

/// A log at work; it ends when dropped, once what waits is written.
#[derive(Debug)]
pub(super) struct Output {
    lines: SyncSender<Value>,
    unwritten: Arc<AtomicU64>,
}

impl Output {
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(target: LogTarget) -> io::Result<Self> {
        let (lines, queue) = sync_channel(WAITING);
        let unwritten = Arc::new(AtomicU64::new(0));
        let mut writer = Writer { unwritten: Arc::clone(&unwritten), target, trouble: None };
        // It ends with the sender.
        thread::Builder::new().name("security-log".to_owned()).spawn(move || writer.work(&queue))?;
        Ok(Output { lines, unwritten })
    }

    /// Writes a line, or counts it as lost where too many wait already.
    pub(super) fn write(&self, line: Value) {
        if self.lines.try_send(line).is_err() {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were lost since this was asked last.
    pub(super) fn take_unwritten(&self) -> u64 {
        self.unwritten.swap(0, Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Writer {
    unwritten: Arc<AtomicU64>,
    target: LogTarget,
    /// Why nothing can be written at the moment.
    trouble: Option<String>,
}

impl Writer {
    fn work(&mut self, queue: &Receiver<Value>) {
        let mut open = None;
        while let Ok(line) = queue.recv() {
            let written = match &self.target {
                LogTarget::File(path) => to_file(&mut open, path, &line),
                LogTarget::Journal => to_journal(&line),
            };
            if written.is_err() {
                self.unwritten.fetch_add(1, Ordering::Relaxed);
                open = None;
            }
            self.tell(written.err());
        }
    }

    /// Says what is wrong when it begins, and when it is over.
    fn tell(&mut self, failed: Option<io::Error>) {
        let place = match &self.target {
            LogTarget::File(path) => path.display().to_string(),
            LogTarget::Journal => "the journal".to_owned(),
        };
        let now = failed.map(|reason| reason.to_string());
        match (&self.trouble, &now) {
            (None, Some(reason)) => {
                warn!(
                    "security_log.path: {place} cannot be written: {reason}; what is not written is counted"
                );
            }
            (Some(_), None) => info!("security_log.path: {place} can be written again"),
            _ => {}
        }
        self.trouble = now;
    }
}

fn to_file(open: &mut Option<File>, path: &Path, line: &Value) -> io::Result<()> {
    let is_there = |file: &File| -> io::Result<bool> {
        let (ours, named) = (file.metadata()?, std::fs::metadata(path)?);
        Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino()))
    };
    if !open.as_ref().is_some_and(|file| is_there(file).unwrap_or(false)) {
        *open = Some(OpenOptions::new().create(true).append(true).mode(MODE).open(path)?);
    }
    let Some(file) = open else { return Ok(()) };
    let length = file.metadata()?.len();
    // One write a line: whoever reads along sees no half of one.
    file.write_all(format!("{line}\n").as_bytes()).inspect_err(|_| {
        // A disk that is full takes half of one. Where that cannot be taken back nothing else can be done.
        _ = file.set_len(length);
    })
}

/// One datagram an entry, `FIELD=value` a line; JSON has no line breaks but escaped ones.
fn to_journal(line: &Value) -> io::Result<()> {
    let mut entry = format!("MESSAGE={line}\nPRIORITY=6\nSYSLOG_IDENTIFIER=sgflow\n");
    for (name, value) in line.as_object().into_iter().flatten() {
        let text = match value {
            Value::String(text) if !text.contains('\n') => text.clone(),
            Value::Null => continue,
            other => other.to_string(),
        };
        entry += &format!("SGFLOW_{}={text}\n", name.to_ascii_uppercase());
    }
    UnixDatagram::unbound()?.send_to(entry.as_bytes(), JOURNAL).map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn lines(path: &Path, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(Instant::now() < deadline, "{lines:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn lines_go_to_the_end_of_the_file_and_to_a_new_one_once_it_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("security.jsonl"), dir.path().join("security.jsonl.1"));
        std::fs::write(&path, "{\"kept\":true}\n").unwrap();
        let output = Output::start(LogTarget::File(path.clone())).unwrap();
        output.write(json!({"port": "a\nb"}));
        assert_eq!(lines(&path, 2), [json!({"kept": true}), json!({"port": "a\nb"})]);
        std::fs::rename(&path, &old).unwrap();
        output.write(json!({"n": 2}));
        assert_eq!(lines(&path, 1), [json!({"n": 2})]);
        assert_eq!(lines(&old, 2).len(), 2);
        assert_eq!(output.take_unwritten(), 0);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_rest_is_once_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not-yet/security.jsonl");
        let output = Output::start(LogTarget::File(path.clone())).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        output.write(json!({"n": 1}));
        let mut unwritten = 0;
        while unwritten == 0 {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(10));
            unwritten += output.take_unwritten();
        }
        assert_eq!((unwritten, output.take_unwritten()), (1, 0));
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        output.write(json!({"n": 2}));
        assert_eq!(lines(&path, 1), [json!({"n": 2})]);
    }
}
