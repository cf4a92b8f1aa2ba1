//! What is known of a container, and what a pod's containers amount to.

use jiff::Timestamp;

/// The exit code of a container whose end nobody saw, as after a power cut.
pub const UNKNOWN_EXIT_CODE: i32 = 255;

/// What a container does at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// It does not run; `reason` is a kubelet's word for why.
    Waiting { reason: String, message: Option<String> },
    /// Its process runs.
    Running { since: Timestamp },
    /// It has ended.
    Terminated(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`, …
    pub reason: String,
    /// The termination message.
    pub message: Option<String>,
    /// Start of the process.
    pub started: Option<Timestamp>,
    /// End of the process.
    pub finished: Timestamp,
}

impl Exit {
    /// The end of a container that was running when the node went down.
    #[must_use]
    pub fn unseen(started: Option<Timestamp>, now: Timestamp) -> Self {
        let message = Some("The node went down while the container was running".to_owned());
        let (code, reason) = (UNKNOWN_EXIT_CODE, "Unknown".to_owned());
        Self { code, signal: None, reason, message, started, finished: now }
    }
}

/// A container as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// Its name in the pod.
    pub name: String,
    /// What it does.
    pub activity: Activity,
    /// How it ended the time before.
    pub last: Option<Exit>,
    /// How often it was started again.
    pub restarts: i32,
    /// The readiness probe, if any, is content.
    pub ready: bool,
    /// The startup probe, if any, was passed.
    pub started: bool,
    /// It has ended and will not be started again.
    pub finished: bool,
}

impl ContainerState {
    /// A container that was not started yet.
    #[must_use]
    pub fn waiting(name: &str, reason: &str) -> Self {
        Self {
            name: name.to_owned(),
            activity: Activity::Waiting { reason: reason.to_owned(), message: None },
            last: None,
            restarts: 0,
            ready: false,
            started: false,
            finished: false,
        }
    }

    /// The end it came to, if it is over for good.
    #[must_use]
    pub fn end(&self) -> Option<&Exit> {
        match &self.activity {
            Activity::Terminated(exit) if self.finished => Some(exit),
            _ => None,
        }
    }

    /// Whether it has ended for good, with exit code 0.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.end().is_some_and(|exit| exit.code == 0)
    }

    /// The pod was stopped while the container did not run: its last end is the final one, or if it never ran, it ends as a
    /// kubelet reports containers it knows nothing of.
    pub fn end_unstarted(&mut self) {
        self.finished = true;
        self.ready = false;
        if let Some(exit) = self.last.clone() {
            self.activity = Activity::Terminated(exit);
            return;
        }
        let now = Timestamp::now();
        let message = "The container could not be located when the pod was terminated".to_owned();
        let reason = "ContainerStatusUnknown".to_owned();
        let exit = Exit { code: 137, signal: None, reason, message: Some(message), started: None, finished: now };
        self.activity = Activity::Terminated(exit);
    }

    /// Whether its process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.activity, Activity::Running { .. })
    }
}

/// When a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// After a failure.
    OnFailure,
    /// Not at all.
    Never,
}

impl RestartPolicy {
    /// The policy named in a pod; the API server knows no others.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with this code is started again.
    #[must_use]
    pub fn restarts(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }

    /// The policy of an init container, which must succeed exactly once.
    #[must_use]
    pub fn of_init(self) -> Self {
        if self == Self::Never { Self::Never } else { Self::OnFailure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_containers_succeed_once() {
        assert!(RestartPolicy::Always.restarts(0));
        assert!(!RestartPolicy::Always.of_init().restarts(0));
        assert!(RestartPolicy::Always.of_init().restarts(1));
        assert!(!RestartPolicy::Never.of_init().restarts(1));
    }
}
