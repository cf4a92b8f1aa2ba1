//! What a program says, read in bounded memory however much it is.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use crate::core::text::redact;

/// How much of what is said on stderr is kept to find out what it meant, in bytes.
const KEPT: usize = 64 * 1024;
/// How much of its beginning is kept at least, in bytes.
const FIRST: usize = 4 * 1024;
/// How much of it is logged, in bytes: the rest is read and dropped, so that the program is not held up.
const LOGGED: usize = 1 << 20;
/// Longest line, in bytes; the rest of a longer one is dropped.
const LINE: usize = 16 * 1024;

/// What helm said on stderr.
#[derive(Debug, Default)]
pub struct HelmOutput {
    /// The beginning of it: where Go's runtime says why it gives up.
    pub first: String,
    /// The end of it: where helm says what went wrong.
    pub last: String,
}

/// Logs what helm says, line by line, and returns both ends of it as they were said.
pub async fn listen(stderr: impl AsyncRead + Unpin) -> HelmOutput {
    let mut reader = BufReader::new(stderr);
    let (mut said, mut logged) = (HelmOutput::default(), 0);
    while let Some(line) = line(&mut reader).await {
        let line = String::from_utf8_lossy(&line);
        if logged <= LOGGED {
            tracing::info!("helm: {line}");
            logged += line.len() + 1;
            if logged > LOGGED {
                tracing::warn!("helm says more than {LOGGED} bytes: the rest is not logged");
            }
        }
        if said.first.len() < FIRST {
            said.first.push_str(&line);
            said.first.push('\n');
        }
        said.last.push_str(&line);
        said.last.push('\n');
        if said.last.len() > 2 * KEPT {
            said.last = redact::tail(&said.last, KEPT);
        }
    }
    said
}

/// The next line without its end, cut off at the longest; none at the end, or if nothing can be read any more.
async fn line(reader: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let mut begun = false;
    loop {
        let chunk = reader.fill_buf().await.ok().filter(|chunk| !chunk.is_empty());
        let Some(chunk) = chunk else { return begun.then_some(line) };
        begun = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&part[..part.len().min(LINE.saturating_sub(line.len()))]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Some(line);
        }
    }
}

/// All of it, or none if it is more than `limit` bytes.
pub async fn all(stdout: impl AsyncRead + Unpin, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut read = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    stdout.take(one_more).read_to_end(&mut read).await?;
    Ok((read.len() <= limit).then_some(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_and_the_end_is_kept() {
        let endless = tokio::io::repeat(b'x').take(8 << 20);
        let said = listen(endless.chain(&b"\nshort\n\nError: why"[..])).await.last;
        assert!(said.ends_with("x\nshort\n\nError: why\n"), "{}", &said[said.len() - 40..]);
        assert_eq!(said.find('\n'), Some(LINE), "of a line without an end the beginning is kept");
    }

    #[tokio::test]
    async fn many_lines_are_read_to_their_end() {
        let lines = "fatal: first\n".to_owned() + &format!("{}\n", "y".repeat(1000)).repeat(5000) + "Error: last";
        let HelmOutput { first, last } = listen(lines.as_bytes()).await;
        assert!(last.len() <= 2 * KEPT && last.ends_with("Error: last\n"));
        assert!(first.len() <= FIRST + LINE + 1 && first.starts_with("fatal: first\n"));
    }

    #[tokio::test]
    async fn more_than_the_limit_is_none() {
        assert_eq!(all(&b"12345"[..], 5).await.unwrap().unwrap(), b"12345");
        assert_eq!(all(&b"123456"[..], 5).await.unwrap(), None);
        assert_eq!(all(tokio::io::repeat(0), 1 << 20).await.unwrap(), None, "an endless one ends, too");
    }
}
