//! A rollout in one line.

use super::verify::WorkloadPods;

/// What a person waiting for the rollout wants to read: the first pod in trouble, else the workloads that are not done.
/// Nothing if all are done.
pub fn line(observed: &[WorkloadPods]) -> Option<String> {
    let mut live = observed.iter().flat_map(|o| &o.pods).filter(|asked| !asked.pod.leaving && !asked.pod.ready);
    if let Some(text) = live.find_map(|asked| Some(format!("Pod/{} {}", asked.pod.name, asked.pod.trouble()?))) {
        return Some(text);
    }
    let open: Vec<String> = observed.iter().filter_map(rollout).collect();
    match open.len() {
        0 => None,
        count @ 0..=SHOWN => Some(open[..count].join("; ")),
        count => Some(format!("{}; {} more", open[..SHOWN].join("; "), count - SHOWN)),
    }
}

/// How many workloads are shown in the line.
const SHOWN: usize = 2;

fn rollout(observed: &WorkloadPods) -> Option<String> {
    // What its controller has not seen yet is about the old template.
    let facts = observed.workload.as_ref().filter(|facts| facts.observed)?;
    let (desired, old) = (facts.desired, facts.total - facts.updated);
    if facts.updated < desired - facts.held_back {
        let desired = desired - facts.held_back;
        Some(format!("{}: {} of {desired} pods updated, {} ready", facts.object, facts.updated, facts.ready))
    } else if old > facts.held_back {
        Some(format!("{}: {desired} of {desired} pods updated, {old} old left", facts.object))
    } else if facts.ready < desired {
        Some(format!("{}: {} of {desired} updated pods ready", facts.object, facts.ready))
    } else if facts.available < desired {
        Some(format!("{}: {} of {desired} updated pods ready for long enough", facts.object, facts.available))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rollout::verify::PodAnswer;
    use crate::core::rollout::workload::{PodFacts, WorkloadFacts};

    #[test]
    fn trouble_comes_before_numbers() {
        let mut observed = WorkloadPods {
            object: "Deployment/coder".into(),
            workload: Some(WorkloadFacts {
                object: "Deployment/coder".into(),
                observed: true,
                desired: 3,
                total: 4,
                updated: 1,
                held_back: 0,
                ready: 3,
                available: 3,
                images: vec![],
            }),
            pods: vec![],
        };
        assert_eq!(
            line(std::slice::from_ref(&observed)).as_deref(),
            Some("Deployment/coder: 1 of 3 pods updated, 3 ready")
        );
        observed.pods.push(PodAnswer {
            pod: PodFacts { name: "coder-1".into(), unschedulable: Some("no node".into()), ..PodFacts::default() },
            ..PodAnswer::default()
        });
        assert_eq!(line(&[observed]).as_deref(), Some("Pod/coder-1 cannot be scheduled (no node)"));
        assert_eq!(line(&[]), None);
    }
}
