//! Workspace builds that an interruption would break off: they are waited for, for a while.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::api::FailureClass;
use crate::core::plan::Pause;
use crate::core::report::Problem;
use crate::runner::coder::token::Token;
use crate::runner::coder::{self, Unanswered};
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::rollout::observer::Observer;

/// How often Coder is asked.
const LOOK: Duration = Duration::from_secs(2);
/// How often in a row nobody may answer before it is taken for granted that nobody will.
const TRIES: u32 = 3;

/// Waits until no workspace build is pending or running. A Coder that cannot be asked is no reason to wait: nothing that
/// does not answer is interrupted.
pub async fn ended(ctx: &Context, pause: &Pause, observer: &Observer) -> Result<(), Error> {
    let Some(reference) = &pause.token else { return Ok(()) };
    let token = Token::read(ctx, reference).await?;
    observer.ready().await;
    let begun = Instant::now();
    let mut silent = 0;
    while silent < TRIES {
        match running(observer, &token).await? {
            Some(0) => {
                tracing::info!("no workspace build is running");
                return Ok(());
            }
            Some(count) => {
                silent = 0;
                let line = match count {
                    1 => "1 workspace build still runs".to_owned(),
                    _ => format!("{count} workspace builds still run"),
                };
                if begun.elapsed() >= Duration::from_secs(pause.quiesce_seconds) {
                    let message = format!(
                        "{line} after {} s of waiting (spec.quiesce.timeout); nothing was changed",
                        pause.quiesce_seconds
                    );
                    return Err(Problem::new(FailureClass::BuildsRunning, message)
                        .field("spec.quiesce.timeout")
                        .into());
                }
                ctx.reporter.progress(&line);
            }
            None if observer.servers().is_empty() => break,
            None => silent += 1,
        }
        sleep(LOOK).await;
    }
    tracing::warn!("no pod of Coder tells whether workspace builds run; they are not waited for");
    Ok(())
}

/// How many builds run, from the first pod that tells; none if nobody does.
async fn running(observer: &Observer, token: &Token) -> Result<Option<u64>, Error> {
    for (pod, endpoint) in observer.servers() {
        match coder::builds(&pod, &endpoint, token.value()).await {
            Ok(builds) => return Ok(Some(builds)),
            Err(Unanswered::Refused(how)) => return Err(token.refused(&pod.name, &how).into()),
            Err(Unanswered::Unknown(how) | Unanswered::Silent(how)) => {
                tracing::warn!("Pod/{} {how}", pod.name);
            }
        }
    }
    Ok(None)
}
