//! Servers that keep from the runner who they are: the change can be verified only by what is left.

use super::Facts;
use crate::api::{CheckName, Finding};

/// The label of the runner's pods, by which network policies may let them in.
const RUNNER: &str = "app.kubernetes.io/name=coder-upgrade-runner";

/// [`CheckName::ServerAnswers`]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let warning = |pod: &str, message: String, next_step: String| {
        Finding::warning(CheckName::ServerAnswers, message, next_step).about(format!("Pod/{pod}"))
    };
    if let Some(first) = facts.unanswered.first() {
        let others = match facts.unanswered.len() - 1 {
            0 => String::new(),
            1 => " (and one more pod)".to_owned(),
            others => format!(" (and {others} more pods)"),
        };
        let what = if facts.answers.is_empty() {
            "the runner cannot ask any server of Coder, so the change is verified by the rollout, the readiness and the \
             images of the pods alone, and not by their version and their database"
        } else {
            "after the change every server has to answer"
        };
        let message = format!("Pod/{} is ready and {}{others}: {what}", first.pod, first.why);
        let next_step = format!(
            "Let pods with the label {RUNNER} reach the port of Coder's pods (NetworkPolicy, service mesh, proxy), or leave \
             it as it is."
        );
        return vec![warning(&first.pod, message, next_step)];
    }
    let withheld = facts.answers.iter().find_map(|answer| Some((answer, answer.withheld.as_ref()?)));
    let told = withheld.map(|(answer, why)| {
        let message = format!(
            "Pod/{} {why}: the version of every pod is verified, and not that they work on the same database",
            answer.pod
        );
        let next_step = "Nothing has to be done. To have the database verified as well, let the pods answer plain HTTP without \
                         a redirect, or listen for TLS.";
        warning(&answer.pod, message, next_step.into())
    });
    told.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::checks::sample;
    use crate::core::rollout::inventory::{Answer, NoAnswer, Silence};

    #[test]
    fn what_cannot_be_verified_is_said_before_the_change() {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        assert_eq!(check(&facts), []);
        facts.answers = vec![sample::answer("coder-1", "2.30.0")];
        assert_eq!(check(&facts), []);
        facts.answers[0] = Answer { withheld: Some("tells nothing".into()), ..facts.answers[0].clone() };
        assert!(
            check(&facts)[0].message.starts_with("Pod/coder-1 tells nothing: the version of every pod is verified")
        );
        let why = "closes the connection".to_owned();
        facts.unanswered = vec![NoAnswer { pod: "coder-2".into(), why, silence: Silence::Unreachable }; 2];
        let found = check(&facts);
        assert!(found[0].message.contains("(and one more pod): after the change every server has to answer"));
        facts.answers.clear();
        assert!(check(&facts)[0].message.contains("by the rollout, the readiness and the images"));
    }
}
