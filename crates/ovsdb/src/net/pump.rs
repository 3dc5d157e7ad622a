//! Moves bytes in both directions at once.
//!
//! ovsdb-server does not read from a client while it has bytes for it that the socket does not take; a client
//! that only writes while it has something to write would wait for ever.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::Io;

/// A socket with the bytes that wait to be written.
pub(crate) struct Pump {
    reader: ReadHalf<Box<dyn Io>>,
    writer: WriteHalf<Box<dyn Io>>,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    is_flushed: bool,
}

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

impl Pump {
    pub(crate) fn new(stream: Box<dyn Io>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader, writer, input: vec![0; CHUNK], output: Vec::new(), written: 0, is_flushed: true }
    }

    /// Queues bytes; they are written while [`Pump::read`] is awaited.
    pub(crate) fn queue(&mut self, bytes: Vec<u8>) {
        if self.output.is_empty() {
            self.output = bytes;
        } else {
            self.output.extend_from_slice(&bytes);
        }
    }

    /// Bytes that are not written yet.
    pub(crate) fn backlog(&self) -> usize {
        self.output.len() - self.written
    }

    /// Waits for bytes and gives them, writing meanwhile; empty at the end of the stream. Cancel safe.
    pub(crate) async fn read(&mut self) -> io::Result<&[u8]> {
        loop {
            let rest = &self.output[self.written..];
            let has_work = !rest.is_empty() || !self.is_flushed;
            let count = tokio::select! {
                count = self.reader.read(&mut self.input) => count?,
                outcome = write_or_flush(&mut self.writer, rest), if has_work => {
                    self.note_written(outcome?);
                    continue;
                }
            };
            return Ok(&self.input[..count]);
        }
    }

    fn note_written(&mut self, progress: Progress) {
        match progress {
            Progress::Flushed => self.is_flushed = true,
            Progress::Written(count) => {
                self.written += count;
                self.is_flushed = false;
                if self.written == self.output.len() {
                    self.output = Vec::new();
                    self.written = 0;
                }
            }
        }
    }
}

enum Progress {
    Written(usize),
    Flushed,
}

/// Writes some of `rest`; with nothing left, flushes what TLS may hold back. Cancel safe: one await either way.
async fn write_or_flush(writer: &mut WriteHalf<Box<dyn Io>>, rest: &[u8]) -> io::Result<Progress> {
    if rest.is_empty() {
        return writer.flush().await.map(|()| Progress::Flushed);
    }
    match writer.write(rest).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(Progress::Written(count)),
    }
}
