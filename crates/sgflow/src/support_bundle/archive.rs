//! The parts of a bundle, and the file that they become.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, Header};
use tempfile::NamedTempFile;

/// No part is larger, in bytes; of a longer one there is the beginning.
pub(super) const PART_BYTES: usize = 32 << 20;
/// The directory that all of it unpacks into.
const DIRECTORY: &str = "sgflow-support";

/// What was collected, and what could not be had.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    /// Its text, or why there is none.
    text: Result<Text, String>,
}

#[derive(Debug)]
struct Text {
    bytes: Vec<u8>,
    /// How long it was before it was cut.
    whole: usize,
}

impl Bundle {
    /// Takes in a part, or why it could not be had.
    pub(super) fn add(&mut self, name: &'static str, text: anyhow::Result<String>) {
        let text = text.map_err(|reason| format!("{reason:#}")).map(|text| {
            let mut bytes = text.into_bytes();
            let whole = bytes.len();
            bytes.truncate(PART_BYTES);
            Text { bytes, whole }
        });
        self.parts.push(Part { name, text });
    }

    /// What is in it and what is not, one line a part.
    pub(super) fn manifest(&self) -> String {
        let mut lines = String::new();
        for Part { name, text } in &self.parts {
            // Into a String, which takes everything.
            _ = match text {
                Ok(Text { bytes, whole }) if bytes.len() < *whole => {
                    writeln!(lines, "cut     {name}: the first {} of {whole} bytes", bytes.len())
                }
                Ok(Text { whole: 0, .. }) => writeln!(lines, "empty   {name}"),
                Ok(Text { whole, .. }) => writeln!(lines, "there   {name}: {whole} bytes"),
                Err(reason) => writeln!(lines, "missing {name}: {}", reason.replace('\n', " ")),
            };
        }
        lines
    }

    /// The same for programs.
    pub(super) fn to_json(&self) -> Value {
        let part = |Part { name, text }: &Part| match text {
            Ok(Text { bytes, whole }) => json!({"name": name, "bytes": bytes.len(), "of": whole}),
            Err(reason) => json!({"name": name, "missing": reason}),
        };
        self.parts.iter().map(part).collect()
    }

    /// Writes it all to a file that is not there yet, with mode 0600; nothing is left of one that cannot be written.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = NamedTempFile::new_in(directory)?;
        let mut archive = Builder::new(GzEncoder::new(&mut file, Compression::default()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut append = |name: &str, bytes: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(now);
            archive.append_data(&mut header, format!("{DIRECTORY}/{name}"), bytes)
        };
        append("MANIFEST", self.manifest().as_bytes())?;
        for Part { name, text } in &self.parts {
            if let Ok(Text { bytes, .. }) = text {
                append(name, bytes)?;
            }
        }
        archive.into_inner()?.finish()?.flush()?;
        file.persist_noclobber(path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn what_is_too_long_is_cut_and_said() {
        let mut bundle = Bundle::default();
        bundle.add("short", Ok("x".to_owned()));
        bundle.add("long", Ok("y".repeat(PART_BYTES + 1)));
        bundle.add("mute", Ok(String::new()));
        bundle.add("none", Err(anyhow::anyhow!("of two\nlines")));
        expect![[r"
            there   short: 1 bytes
            cut     long: the first 33554432 of 33554433 bytes
            empty   mute
            missing none: of two lines
        "]]
        .assert_eq(&bundle.manifest());
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("there");
        std::fs::write(&path, "mine").unwrap();
        let error = Bundle::default().write(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
