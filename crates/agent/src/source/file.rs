//! The policy source that is a file or a directory, watched.
//!
//! All ways of changing a file come down to an event in some directory: editors rename a new file over the old one,
//! configuration mounts swap a symbolic link, `>` writes in place. So directories are watched, never files: the one
//! that holds the path, the path itself when it is one, and where symbolic links lead. Whatever no event tells (a
//! network file system, a mount over the path) a look at sizes and times finds a little later.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc};
use tracing::warn;

use super::documents::{Documents, DocumentsError, Fingerprint};

/// A document is read when nothing has happened for so long: what is being written is not read half.
const QUIET: Duration = Duration::from_millis(100);
/// But it is read after so long at the latest.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often sizes and times are looked at.
const RESCAN: Duration = Duration::from_secs(5);

/// What the source has to say: documents that are new, or why there are none.
pub type Reading = Result<Documents, DocumentsError>;

/// Watches `path` and sends what is read there: at once, then whenever it is something else. An error is sent once,
/// until it is another. Ends when the receiver is dropped.
pub fn watch(path: PathBuf) -> mpsc::Receiver<Reading> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(run(path, sender));
    receiver
}

async fn run(path: PathBuf, readings: mpsc::Sender<Reading>) {
    let stirred = Arc::new(Notify::new());
    let mut watcher = Directories::new(&stirred);
    let mut last_text: Option<Documents> = None;
    let mut last_error: Option<String> = None;
    loop {
        watcher.follow(directories(&path));
        let fingerprint = Fingerprint::of(&path);
        let reading = read(path.clone()).await;
        let news = match &reading {
            Ok(documents) => last_text.as_ref() != Some(documents) || last_error.is_some(),
            Err(error) => last_error != Some(error.to_string()),
        };
        match &reading {
            Ok(documents) => (last_text, last_error) = (Some(documents.clone()), None),
            Err(error) => last_error = Some(error.to_string()),
        }
        if news && readings.send(reading).await.is_err() {
            return;
        }
        tokio::select! {
            () = changed(&path, &fingerprint, &stirred) => {}
            () = readings.closed() => return,
        }
    }
}

async fn read(path: PathBuf) -> Reading {
    let shown = path.clone();
    let read = tokio::task::spawn_blocking(move || Documents::read(&path)).await;
    read.unwrap_or_else(|error| {
        Err(DocumentsError::Unreadable { path: shown, reason: std::io::Error::other(error) })
    })
}

/// Returns when there may be something new, and the dust has settled.
async fn changed(path: &Path, fingerprint: &Fingerprint, stirred: &Notify) {
    loop {
        match tokio::time::timeout(RESCAN, stirred.notified()).await {
            Ok(()) => break,
            Err(_) if Fingerprint::of(path) != *fingerprint => break,
            Err(_) => {}
        }
    }
    let settle = async { while tokio::time::timeout(QUIET, stirred.notified()).await.is_ok() {} };
    // Patience at its end is as good as quiet: the next change is an event again.
    _ = tokio::time::timeout(PATIENCE, settle).await;
}

/// The directories in which a change of the documents at `path` shows.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for form in [Some(absolute.clone()), std::fs::canonicalize(&absolute).ok()].into_iter().flatten() {
        if form.is_dir() {
            directories.insert(form.clone());
        }
        // Where not even the directory exists yet, the one in which it will appear.
        directories.extend(form.ancestors().skip(1).find(|parent| parent.is_dir()).map(Path::to_owned));
    }
    directories
}

/// The directories that are watched.
struct Directories {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Directories {
    fn new(stirred: &Arc<Notify>) -> Self {
        let stirred = Arc::clone(stirred);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_change(event.kind)) {
                stirred.notify_one();
            }
        });
        let watcher = watcher.map_err(|error| {
            warn!(%error, every_s = RESCAN.as_secs(), "cannot watch the policy; looking at it now and then instead");
        });
        Directories { watcher: watcher.ok(), watched: BTreeSet::new() }
    }

    fn follow(&mut self, wanted: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.watched.difference(&wanted) {
            // The directory may be gone itself, and the watch with it.
            _ = watcher.unwatch(gone);
        }
        for directory in &wanted {
            // Those that are watched too: another directory may have taken the place.
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                warn!(directory = %directory.display(), %error, "cannot watch a directory");
            }
        }
        self.watched = wanted;
    }
}

/// Our own reading shows as access, and is none.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(readings: &mut mpsc::Receiver<Reading>) -> String {
        let reading = tokio::time::timeout(Duration::from_secs(30), readings.recv()).await;
        match reading.expect("a change is told").expect("the source lives") {
            Ok(documents) => documents.files.iter().map(|(_, text)| &**text).collect(),
            Err(error) => format!("error {}", error.to_string().rsplit(": ").next().unwrap_or_default()),
        }
    }

    #[tokio::test]
    async fn a_file_is_seen_to_appear_change_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("not/yet/policy.yaml");
        let mut readings = watch(file.clone());
        assert!(next(&mut readings).await.starts_with("error No such file"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "one").unwrap();
        assert_eq!(next(&mut readings).await, "one");
        std::fs::write(&file, "two").unwrap();
        assert_eq!(next(&mut readings).await, "two");
        let beside = dir.path().join("not/yet/.policy.yaml.new");
        std::fs::write(&beside, "three").unwrap();
        std::fs::rename(&beside, &file).unwrap();
        assert_eq!(next(&mut readings).await, "three");
        std::fs::remove_file(&file).unwrap();
        assert!(next(&mut readings).await.starts_with("error No such file"));
        std::fs::write(&file, "three").unwrap();
        assert_eq!(next(&mut readings).await, "three", "back again is news, if only of the error's end");
    }

    #[tokio::test]
    async fn a_swapped_link_is_a_change_of_all_its_files_at_once() {
        // As a ConfigMap volume does it: policy.d/x.yaml -> ..data/x.yaml, ..data -> ..1.
        let dir = tempfile::tempdir().unwrap();
        let version = |name: &str, text: &str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("x.yaml"), text).unwrap();
        };
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        version("..1", "one");
        link("..1", "..data");
        link("..data/x.yaml", "x.yaml");
        let mut readings = watch(dir.path().to_owned());
        assert_eq!(next(&mut readings).await, "one");
        version("..2", "two");
        link("..2", "..data_new");
        std::fs::rename(dir.path().join("..data_new"), dir.path().join("..data")).unwrap();
        assert_eq!(next(&mut readings).await, "two");
    }

    #[tokio::test]
    async fn the_source_ends_with_its_receiver() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, receiver) = mpsc::channel(1);
        let running = tokio::spawn(run(dir.path().to_owned(), sender));
        drop(receiver);
        tokio::time::timeout(Duration::from_secs(30), running).await.expect("it ends").unwrap();
    }
}
