//! Follows a `CoderUpgrade` and tells each change as it happens.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use coder_upgrade_operator::api::{CoderUpgrade, CoderUpgradeStatus, Phase, StepState};
use futures::TryStreamExt;
use kube::{Api, Client, runtime::watcher};

use crate::Result;

/// Tells what happens until the attempt has ended. Returns whether it was verified.
pub async fn follow(client: Client, namespace: &str, name: &str, patience: Duration) -> Result<bool> {
    let api: Api<CoderUpgrade> = Api::namespaced(client, namespace);
    let mut objects = pin!(watcher::watch_object(api, name));
    let mut teller = Teller { begin: Instant::now(), told: Vec::new() };
    let watch = async {
        while let Some(object) = objects.try_next().await? {
            let Some(status) = object.and_then(|object| object.status) else { continue };
            teller.tell(&status);
            if matches!(status.phase, Phase::Succeeded | Phase::Failed) {
                return Ok(status.phase == Phase::Succeeded);
            }
        }
        Err("the watch of the CoderUpgrade has ended".into())
    };
    tokio::time::timeout(patience, watch)
        .await
        .map_err(|_| format!("nothing was decided within {} s", patience.as_secs()))?
}

struct Teller {
    begin: Instant,
    told: Vec<String>,
}

impl Teller {
    fn tell(&mut self, status: &CoderUpgradeStatus) {
        for step in &status.steps {
            let state = match step.state {
                StepState::Running => String::new(),
                ended => format!(" {}", ended.to_string().to_lowercase()),
            };
            let message = if step.message.is_empty() { format!("Job {}", step.job_name) } else { step.message.clone() };
            self.once(format!("{:<17} {message}", format!("{}{state}", step.name)));
        }
        self.once(format!("{:<17} {}", format!("=> {}", status.phase), status.message));
    }

    /// A status is told again with each change; what was said is not repeated.
    fn once(&mut self, line: String) {
        if !self.told.contains(&line) {
            println!("    {:+6.1}  {line}", self.begin.elapsed().as_secs_f32());
            self.told.push(line);
        }
    }
}
