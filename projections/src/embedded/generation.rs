//! Which of several databases in a directory the views are: a rebuilt one is made beside the one in use, and takes its
//! place by the renaming of one small file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::store::ViewError;

const POINTER: &str = "generation";

fn unavailable(path: &Path) -> impl Fn(io::Error) -> ViewError + '_ {
    move |e| match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ViewError::Full(format!("{}: {e}", path.display()))
        }
        _ => ViewError::Unavailable(format!("{}: {e}", path.display())),
    }
}

fn folder(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("rows-{generation}"))
}

/// The number of the generation in use; a directory without one begins with 1.
fn number(dir: &Path) -> Result<u64, ViewError> {
    let path = dir.join(POINTER);
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|_| ViewError::Corrupt(format!("{} is no number", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(1),
        Err(e) => Err(unavailable(&path)(e)),
    }
}

/// The folder of the generation in use. Those before it are deleted.
pub(super) fn current(dir: &Path) -> Result<PathBuf, ViewError> {
    fs::create_dir_all(dir).map_err(unavailable(dir))?;
    let number = number(dir)?;
    for old in (1..number).rev().map(|n| folder(dir, n)).take_while(|f| f.exists()) {
        // Where another process still reads it, it goes the next time.
        if let Err(error) = fs::remove_dir_all(&old) {
            tracing::warn!(folder = %old.display(), %error, "an old generation of views was not deleted");
        }
    }
    Ok(folder(dir, number))
}

/// A generation that is being made.
#[derive(Debug)]
pub(super) struct Fresh {
    dir: PathBuf,
    number: u64,
}

impl Fresh {
    /// A folder that nobody has used.
    pub(super) fn begin(dir: &Path) -> Result<Self, ViewError> {
        fs::create_dir_all(dir).map_err(unavailable(dir))?;
        let mut number = number(dir)? + 1;
        loop {
            match fs::create_dir(folder(dir, number)) {
                Ok(()) => {
                    return Ok(Self {
                        dir: dir.to_owned(),
                        number,
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(unavailable(dir)(e)),
            }
        }
    }

    pub(super) fn folder(&self) -> PathBuf {
        folder(&self.dir, self.number)
    }

    /// From now on this is the generation in use: whoever opens the directory after a crash finds the old one or this.
    pub(super) fn switch(&self) -> Result<(), ViewError> {
        let (new, pointer) = (self.dir.join("generation.new"), self.dir.join(POINTER));
        let write = || {
            let mut file = File::create(&new)?;
            writeln!(file, "{}", self.number)?;
            file.sync_all()?;
            fs::rename(&new, &pointer)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(unavailable(&pointer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_generation_is_used_only_after_the_switch_and_the_old_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let first = current(dir.path()).unwrap();
        fs::create_dir(&first).unwrap();
        let abandoned = Fresh::begin(dir.path()).unwrap();
        let fresh = Fresh::begin(dir.path()).unwrap();
        assert_ne!(abandoned.folder(), fresh.folder());
        assert_eq!(current(dir.path()).unwrap(), first);
        fresh.switch().unwrap();
        assert_eq!(current(dir.path()).unwrap(), fresh.folder());
        assert!(!first.exists() && !abandoned.folder().exists() && fresh.folder().exists());
    }

    #[test]
    fn a_damaged_pointer_is_no_generation() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(POINTER), "x").unwrap();
        assert!(matches!(current(dir.path()), Err(ViewError::Corrupt(_))));
    }
}
