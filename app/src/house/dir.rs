//! The data directory: what lies where, and how much room there is.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// Room on a volume, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// For us.
    pub free: u64,
    /// In all.
    pub total: u64,
}

impl DataDir {
    /// The directory at `path`, which may not be there yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes it, for its owner alone, where it is not there.
    ///
    /// # Errors
    /// [`Failure::Failed`] naming it.
    pub fn make(&self) -> Result<(), Failure> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|e| Failure::because(format_args!("the data directory {}", self.0.display()), e))
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Processors' states, where the log is elsewhere: copies of what it holds.
    #[must_use]
    pub fn states(&self) -> PathBuf {
        self.0.join("states")
    }

    /// The views.
    #[must_use]
    pub fn views(&self) -> PathBuf {
        self.0.join("views")
    }

    /// The key that signs tokens.
    #[must_use]
    pub fn token_key(&self) -> PathBuf {
        self.0.join("token.key")
    }

    /// Where a running server answers the commands of this machine.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.join("fajma.sock")
    }

    /// Whether there is a log.
    #[must_use]
    pub fn has_log(&self) -> bool {
        self.log().is_dir()
    }

    /// Bytes of all files in it.
    #[must_use]
    pub fn used(&self) -> u64 {
        let mut used = 0;
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(data) if data.is_dir() => folders.push(entry.path()),
                    Ok(data) => used += data.len(),
                    // Table files come and go while one looks.
                    Err(_) => {}
                }
            }
        }
        used
    }

    /// Room on its volume.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn room(&self) -> io::Result<Room> {
        let stat = rustix::fs::statvfs(&self.0)?;
        Ok(Room {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_directory_is_its_owners_alone_and_counts_what_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::new(parent.path().join("a/b"));
        assert!(!dir.has_log());
        dir.make().unwrap();
        dir.make().unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(dir.log()).unwrap();
        fs::write(dir.log().join("x"), [0; 100]).unwrap();
        assert_eq!((dir.used(), dir.has_log()), (100, true));
        let room = dir.room().unwrap();
        assert!(room.free <= room.total && room.total > 0);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let failure = DataDir::new(file.path().join("x")).make().unwrap_err();
        assert!(failure.to_string().contains(&file.path().display().to_string()));
    }
}
