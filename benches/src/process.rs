//! What the system says about a process and the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Result;

/// CPU seconds, user and system, that a process has used.
///
/// # Errors
/// Where there is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    cpu_ticks(&stat)
        .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
        .ok_or_else(|| format!("/proc/{pid}/stat is not what it should be").into())
}

/// `USER_HZ`: what Linux counts process time in, for every program.
const TICKS_PER_SECOND: f64 = 100.0;

/// utime + stime: fields 14 and 15, counted behind the name, which may hold blanks.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// The most memory that a process has held, in bytes (`VmHWM`).
///
/// # Errors
/// Where there is no such process.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| format!("/proc/{pid}/status has no VmHWM").into())
}

/// Bytes on disk under a folder, as allocated. Files that go away meanwhile count nothing.
#[must_use]
pub fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Cores, processor, memory and system in one line.
#[must_use]
pub fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        line.map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({}), memory {}, Linux {}, load before {}",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        system.trim(),
        load(),
    )
}

/// The machine's load in the last minute: what else ran matters to whoever reads the figures.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().next().unwrap_or("?").to_owned()
}

/// The commit of the source, with a mark where it was changed since.
#[must_use]
pub fn commit() -> String {
    const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
    let git = |arguments: &[&str]| {
        let out = Command::new("git")
            .arg("-C")
            .arg(SOURCE)
            .args(arguments)
            .output()
            .ok()?;
        out.status
            .success()
            .then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "?".to_owned());
    commit + if changed { " and changes" } else { "" }
}

/// Binds every thread of a process, and those it will start, to one core.
///
/// # Errors
/// Where `taskset` (util-linux) is not there or refuses.
pub fn pin(pid: u32, core: usize) -> Result<()> {
    let mut taskset = Command::new("taskset");
    taskset.args(["-a", "-p", "-c", &core.to_string(), &pid.to_string()]);
    let out = taskset.output().map_err(|e| format!("taskset: {e}"))?;
    if out.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&out.stderr).into())
    }
}

/// Asks a process to end.
///
/// # Errors
/// Where there is none.
pub fn terminate(pid: u32) -> Result<()> {
    let done = Command::new("kill").args(["-TERM", &pid.to_string()]).status()?;
    if done.success() {
        Ok(())
    } else {
        Err(format!("kill {pid}: {done}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 700 42 0 0 20 0 1";
        assert_eq!(cpu_ticks(&format!("12 (a) b (c)) {rest}")), Some(742));
        assert_eq!(cpu_ticks("12 (a"), None);
    }

    #[test]
    fn a_process_has_memory_and_time() {
        let own = std::process::id();
        assert!(peak_memory(own).unwrap() > 100_000);
        assert!(cpu_seconds(own).unwrap() >= 0.0);
        assert!(cpu_seconds(u32::MAX).is_err());
    }

    #[test]
    fn what_lies_in_a_folder_is_counted_with_what_lies_below() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("file"), vec![1; 10_000]).unwrap();
        fs::File::open(below.join("file")).unwrap().sync_all().unwrap();
        assert!((10_000..100_000).contains(&disk_bytes(folder.path())));
    }
}
