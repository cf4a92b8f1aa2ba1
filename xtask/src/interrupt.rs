//! Ends in order when somebody wants this program to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a program that SIGINT has ended, as shells tell it.
pub const EXIT_CODE: i32 = 130;

/// Returns when this program is asked to end, by Ctrl-C, a closed terminal or a supervisor. From its first poll on, these
/// signals no longer end the program by themselves.
pub async fn asked() -> io::Result<()> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    let received = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    futures::future::select_all(received).await;
    Ok(())
}
