//! The logs of containers: one file for each run, one line for each line, with its time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::NodeError;
use super::context::lock;
use super::sources::Unmet;

/// Tags of lines, as in a kubelet's logs: one that ended with a line break, and one that did not.
const WHOLE: &str = "F";
const PARTIAL: &str = "P";

/// A log that is being written.
pub struct Captured {
    /// Its size in bytes; the sender is gone when it is complete.
    pub size: watch::Receiver<u64>,
    /// Ends when the log is complete.
    pub task: JoinHandle<()>,
}

/// Makes the empty log of a container's run `restarts` and removes those older than the run before it.
pub fn new_file(directory: &Path, restarts: i32) -> Result<PathBuf, Unmet> {
    fs::create_dir_all(directory).map_err(NodeError::file(directory))?;
    let file = directory.join(format!("{restarts}.log"));
    File::create(&file).map_err(NodeError::file(&file))?;
    let mut older = runs(directory);
    older.truncate(older.len().saturating_sub(2));
    for old in older {
        fs::remove_file(&old).map_err(NodeError::file(&old))?;
    }
    Ok(file)
}

/// The logs in a directory, the newest run last.
fn runs(directory: &Path) -> Vec<PathBuf> {
    let number = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok());
    // A directory that is not there holds no logs.
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let mut runs: Vec<(u32, PathBuf)> =
        entries.filter_map(|entry| Some((number(&entry.path())?, entry.path()))).collect();
    runs.sort();
    runs.into_iter().map(|(_, path)| path).collect()
}

/// The log of the newest run, or of the one before it.
pub fn find(directory: &Path, previous: bool) -> Option<PathBuf> {
    runs(directory).into_iter().rev().nth(usize::from(previous))
}

/// Writes what a process prints to `file`, with time and stream, until it has closed both streams.
pub fn capture(file: &Path, stdout: Option<ChildStdout>, stderr: Option<ChildStderr>) -> io::Result<Captured> {
    let (size, watched) = watch::channel(0);
    let sink = Arc::new(Mutex::new(Sink { file: File::options().append(true).open(file)?, size }));
    let task = tokio::spawn(async move {
        tokio::join!(copy(stdout, "stdout", sink.clone()), copy(stderr, "stderr", sink));
    });
    Ok(Captured { size: watched, task })
}

struct Sink {
    file: File,
    size: watch::Sender<u64>,
}

async fn copy(stream: Option<impl AsyncRead + Unpin>, name: &str, sink: Arc<Mutex<Sink>>) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    // A broken pipe is the end of it.
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let whole = line.last() == Some(&b'\n');
        if !whole {
            line.push(b'\n');
        }
        let mut entry = format!("{:.9} {name} {} ", Timestamp::now(), if whole { WHOLE } else { PARTIAL }).into_bytes();
        entry.append(&mut line);
        let mut sink = lock(&sink);
        if let Err(error) = sink.file.write_all(&entry) {
            tracing::error!(%error, "a container's log cannot be written");
            return;
        }
        sink.size.send_modify(|size| *size += entry.len() as u64);
    }
}

/// What somebody wants to see of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only the last lines.
    pub tail: Option<usize>,
    /// Only lines since then.
    pub since: Option<Timestamp>,
    /// With the time before each line.
    pub timestamps: bool,
    /// Not more than so many bytes.
    pub limit: Option<usize>,
}

impl Selection {
    /// The selected lines of a stored log, as the container printed them.
    #[must_use]
    pub fn apply(&self, stored: &[u8]) -> Vec<u8> {
        let lines: Vec<&[u8]> = stored.split_inclusive(|byte| *byte == b'\n').collect();
        let lines: Vec<Vec<u8>> = lines.into_iter().filter_map(|line| self.line(line)).collect();
        let first = self.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        let mut text = lines[first..].concat();
        text.truncate(self.limit.unwrap_or(usize::MAX));
        text
    }

    fn line(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (time, _stream, tag, text) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let text = if tag == PARTIAL.as_bytes() { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        if let Some(since) = self.since {
            let time: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
            if time < since {
                return None;
            }
        }
        Some(if self.timestamps { [time, b" ", text].concat() } else { text.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &[u8] = b"2026-01-01T00:00:00.000000000Z stdout F one\n2026-01-01T00:00:01.000000000Z stderr F two words\n2026-01-01T00:00:02.000000000Z stdout P three\n";

    fn shown(selection: &Selection) -> String {
        String::from_utf8(selection.apply(STORED)).unwrap()
    }

    #[test]
    fn selections() {
        let all = Selection::default();
        assert_eq!(shown(&all), "one\ntwo words\nthree");
        assert_eq!(shown(&Selection { tail: Some(1), ..all.clone() }), "three");
        assert_eq!(shown(&Selection { limit: Some(5), ..all.clone() }), "one\nt");
        let since = Some("2026-01-01T00:00:01Z".parse().unwrap());
        assert_eq!(shown(&Selection { since, ..all.clone() }), "two words\nthree");
        let stamped = shown(&Selection { timestamps: true, tail: Some(1), ..all });
        assert_eq!(stamped, "2026-01-01T00:00:02.000000000Z three");
    }

    #[test]
    fn only_the_last_two_runs_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        for run in [8, 9, 10] {
            new_file(directory.path(), run).unwrap();
        }
        assert_eq!(find(directory.path(), false), Some(directory.path().join("10.log")));
        assert_eq!(find(directory.path(), true), Some(directory.path().join("9.log")));
        assert!(!directory.path().join("8.log").exists());
    }
}
