//! helm ended without success.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::core::helm::failures;

/// Where the kernel counts the processes of this container that it killed because its memory ran out: cgroups of version 2 and 1.
const COUNTERS: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// helm ended with a failure.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct HelmFailure {
    /// helm's own words, with whatever secrets they hold.
    pub text: String,
}

impl HelmFailure {
    /// The failure of a helm process that ended in this way, with what it said on stderr and the number of [`OutOfMemoryKills`]
    /// from before it was started.
    pub(super) fn of(status: ExitStatus, said: &str, before: OutOfMemoryKills) -> Self {
        Self::read(status, said, before != OutOfMemoryKills::now())
    }

    fn read(status: ExitStatus, said: &str, out_of_memory: bool) -> Self {
        let text = match status.signal() {
            // A killed process says nothing; what it said before is not the cause.
            Some(_) if out_of_memory => format!("helm was killed for lack of memory by {status}"),
            Some(_) => format!("helm was killed by {status}"),
            None => match failures::helm_error(said) {
                "" => status.to_string(),
                text => text.to_owned(),
            },
        };
        Self { text }
    }
}

/// How many processes of this container the kernel has killed so far because its memory ran out; none where it does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfMemoryKills(Option<u64>);

impl OutOfMemoryKills {
    pub(super) fn now() -> Self {
        Self(COUNTERS.iter().find_map(|file| count(&fs::read_to_string(file).ok()?)))
    }
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::FailureClass;
    use crate::runner::error::Error;

    #[rstest]
    #[case::killed(9, "Error: half a wo", false, "helm was killed by signal: 9 (SIGKILL)", FailureClass::Interrupted)]
    #[case::memory(9, "", true, "helm was killed for lack of memory by signal: 9 (SIGKILL)", FailureClass::OutOfMemory)]
    #[case::said(1 << 8, "log\nError: release: not found", true, "release: not found", FailureClass::ReleaseMissing)]
    #[case::silent(1 << 8, "", false, "exit status: 1", FailureClass::Unknown)]
    fn the_end_of_a_process_is_told(
        #[case] wait_status: i32,
        #[case] said: &str,
        #[case] out_of_memory: bool,
        #[case] text: &str,
        #[case] class: FailureClass,
    ) {
        let failure = HelmFailure::read(ExitStatus::from_raw(wait_status), said, out_of_memory);
        assert_eq!(failure.text, text);
        let problem = Error::helm(failure).into_problem();
        assert_eq!(problem.class, class);
        assert_eq!(problem.field.is_some(), class == FailureClass::OutOfMemory);
    }

    #[test]
    fn both_versions_of_cgroups_are_read() {
        assert_eq!(count("low 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"), Some(4));
        assert_eq!(count(""), None);
    }
}
