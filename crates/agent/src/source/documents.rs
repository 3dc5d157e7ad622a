//! Reading policy documents from the file system.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;

/// A document set larger than this is not a policy; it would not be held in memory twice either.
const MAX_TOTAL_BYTES: u64 = 1 << 30;

/// Names that end so are documents; others in the directory are not ours.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The texts of a policy, one or several files that belong together. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Name and text of each file, in the order of the names.
    pub files: Vec<(String, Arc<str>)>,
    /// When the newest of them was written, where the file system says.
    pub written: Option<SystemTime>,
}

/// What is written again in the same words is the same.
impl PartialEq for Documents {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

/// Documents that cannot be had. The policy in force stays as it is.
#[derive(Debug, Error)]
pub enum DocumentsError {
    /// Missing, or no right to read it.
    #[error("{path}: {reason}")]
    Unreadable {
        /// Of the file or directory.
        path: PathBuf,
        /// The system's words.
        reason: io::Error,
    },
    /// A directory without documents. That is not taken for an empty policy: a volume that is not mounted looks
    /// the same, and would close every port.
    #[error("{path}: no *.yaml, *.yml or *.json in it; for an empty policy, give a document that says {{}}")]
    NoDocuments {
        /// Of the directory.
        path: PathBuf,
    },
    /// A file of nothing. An editor that truncates before it writes shows one for a moment.
    #[error("{path}: the file is empty; for an empty policy, write {{}}")]
    Empty {
        /// Of the file.
        path: PathBuf,
    },
    /// More than a policy can be.
    #[error("{path}: the documents are larger than {MAX_TOTAL_BYTES} bytes")]
    TooLarge {
        /// Of the file that was too much.
        path: PathBuf,
    },
}

impl Documents {
    /// The document at `path`, or all documents of the directory at `path` (not of those below it).
    pub fn read(path: &Path) -> Result<Self, DocumentsError> {
        let mut files = Vec::new();
        let mut written = None;
        let mut total = 0;
        for file in document_paths(path)? {
            let unreadable = |reason| DocumentsError::Unreadable { path: file.clone(), reason };
            let metadata = std::fs::metadata(&file).map_err(unreadable)?;
            total += metadata.len();
            written = written.max(metadata.modified().ok());
            if total > MAX_TOTAL_BYTES {
                return Err(DocumentsError::TooLarge { path: file });
            }
            let text = std::fs::read_to_string(&file).map_err(unreadable)?;
            if text.trim().is_empty() {
                return Err(DocumentsError::Empty { path: file });
            }
            files.push((file.display().to_string(), text.into()));
        }
        if files.is_empty() {
            return Err(DocumentsError::NoDocuments { path: path.to_owned() });
        }
        Ok(Documents { files, written })
    }

    /// As [`policy::document::parse`] wants them.
    pub fn as_pairs(&self) -> Vec<(&str, &str)> {
        self.files.iter().map(|(name, text)| (name.as_str(), &**text)).collect()
    }
}

/// What tells that documents may have changed, without reading them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Fingerprint(Vec<(PathBuf, u64, Option<SystemTime>)>);

impl Fingerprint {
    /// Of the documents at `path`; what cannot be read is left out.
    pub(super) fn of(path: &Path) -> Self {
        let paths = document_paths(path).unwrap_or_default();
        let stamp = |path: PathBuf| {
            let metadata = std::fs::metadata(&path).ok()?;
            Some((path, metadata.len(), metadata.modified().ok()))
        };
        Fingerprint(paths.into_iter().filter_map(stamp).collect())
    }
}

/// `path` itself, or the documents in it in the order of their names.
fn document_paths(path: &Path) -> Result<Vec<PathBuf>, DocumentsError> {
    let unreadable = |reason| DocumentsError::Unreadable { path: path.to_owned(), reason };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut documents = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if is_document(&file) && !file.is_dir() {
            documents.push(file);
        }
    }
    documents.sort();
    Ok(documents)
}

/// Hidden files are left alone: editors keep theirs there.
fn is_document(path: &Path) -> bool {
    let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_documents_in_order_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.json", "{}"),
            ("a.yaml", "ports: []"),
            ("c.yml", "{}"),
            (".d.yaml", "x"),
            ("e.yaml~", "x"),
            ("f", "x"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::create_dir(dir.path().join("g.yaml")).unwrap();
        let documents = Documents::read(dir.path()).unwrap();
        let names: Vec<_> =
            documents.files.iter().map(|(name, _)| name.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.yaml", "b.json", "c.yml"]);
        assert_eq!(documents.as_pairs()[0].1, "ports: []");
    }

    #[test]
    fn nothing_is_not_an_empty_policy() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Documents::read(dir.path()), Err(DocumentsError::NoDocuments { .. })));
        let file = dir.path().join("a.yaml");
        assert!(matches!(Documents::read(&file), Err(DocumentsError::Unreadable { .. })));
        std::fs::write(&file, " \n").unwrap();
        assert!(matches!(Documents::read(&file), Err(DocumentsError::Empty { .. })));
        assert!(matches!(Documents::read(dir.path()), Err(DocumentsError::Empty { .. })));
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(matches!(Documents::read(&file), Err(DocumentsError::Unreadable { .. })));
    }
}
