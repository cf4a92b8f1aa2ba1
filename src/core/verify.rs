//! Whether what runs is what was wanted: a judgement over gathered facts.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::endpoint::Question;
use super::plan::Answer;
use super::workload::{PodFacts, WorkloadFacts};
use crate::api::{ClaimStatus, FailureClass};

/// What the pods must answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Version of Coder, without a leading v and without build metadata.
    pub version: String,
    /// Ids of the deployment (that is, of the database) that were answered before; empty if nothing answered.
    pub deployments: Vec<String>,
}

impl Expected {
    /// From the chart's appVersion and the answers before the change.
    #[must_use]
    pub fn new(app_version: &str, before: &[Answer]) -> Self {
        let mut deployments: Vec<String> = before.iter().filter_map(|answer| answer.deployment_id.clone()).collect();
        deployments.sort();
        deployments.dedup();
        Self { version: comparable(app_version).to_owned(), deployments }
    }
}

/// A version without a leading v and without build metadata: `v2.31.7+1a2b3c4` and `2.31.7` are the same Coder.
#[must_use]
pub fn comparable(version: &str) -> &str {
    let version = version.trim();
    version.strip_prefix('v').unwrap_or(version).split('+').next().unwrap_or_default()
}

/// A workload with its pods.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The workload as Kind/name.
    pub object: String,
    /// The workload; none if it does not exist.
    pub workload: Option<WorkloadFacts>,
    /// Its pods.
    pub pods: Vec<Asked>,
}

/// A pod and its answer.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The pod.
    pub pod: PodFacts,
    /// What it was asked; none if it is no server of Coder.
    pub question: Option<Question>,
    /// What it answered, or why it did not.
    pub answer: Option<Result<Answer, String>>,
}

/// Something that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Class of the failure that it would be.
    pub class: FailureClass,
    /// Object as Kind/name.
    pub object: String,
    /// What is wrong with it.
    pub message: String,
    /// The pod whose log may explain it.
    pub pod: Option<String>,
}

impl Finding {
    /// Whether no patience cures it: a pod that works on another database will not come back to the right one.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.class == FailureClass::DataMissing
    }
}

/// Everything about the workloads that is not as wanted, the worst first; nothing if all is well.
#[must_use]
pub fn judge(expected: &Expected, observed: &[Observed]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = observed.iter().flat_map(|observed| workload(expected, observed)).collect();
    findings.sort_by_key(|finding| !finding.is_final());
    findings
}

fn workload(expected: &Expected, observed: &Observed) -> Vec<Finding> {
    let finding = |message: String, pod: Option<String>| Finding {
        class: FailureClass::VerificationFailed,
        object: observed.object.clone(),
        message,
        pod,
    };
    let Some(facts) = &observed.workload else {
        return vec![finding("does not exist".into(), None)];
    };
    let live = || observed.pods.iter().filter(|asked| !asked.pod.leaving);
    let old = live().filter(|asked| wrong_image(facts, &asked.pod).is_some()).count();
    let may_be_old = i32::try_from(old).is_ok_and(|old| old <= facts.held_back);
    let mut findings: Vec<Finding> = live().filter_map(|asked| pod(expected, facts, asked, may_be_old)).collect();
    let unready = || live().find(|asked| !asked.pod.ready).map(|asked| asked.pod.name.clone());
    if !facts.observed {
        findings.push(finding("its controller has not seen the new template yet".into(), None));
    } else if facts.updated < facts.desired - facts.held_back {
        let wanted = facts.desired - facts.held_back;
        findings.push(finding(format!("{} of {wanted} pods are updated", facts.updated), unready()));
    } else if facts.total > facts.updated + facts.held_back {
        findings.push(finding(format!("{} pods of the old template are left", facts.total - facts.updated), None));
    } else if facts.ready < facts.desired {
        findings.push(finding(format!("{} of {} pods are ready", facts.ready, facts.desired), unready()));
    } else if facts.available < facts.desired {
        findings.push(finding(
            format!("{} of {} pods have been ready for long enough", facts.available, facts.desired),
            None,
        ));
    } else if i32::try_from(live().count()).unwrap_or(i32::MAX) < facts.desired {
        findings.push(finding(format!("{} of {} pods were found", live().count(), facts.desired), None));
    }
    findings
}

/// The first thing about a pod that is not as wanted. `may_be_old` says that the update strategy of its workload may have left
/// it on the old template.
fn pod(expected: &Expected, workload: &WorkloadFacts, asked: &Asked, may_be_old: bool) -> Option<Finding> {
    let pod = &asked.pod;
    let message = if let Some(trouble) = pod.trouble() {
        trouble
    } else if let Some((name, wanted, got)) = wrong_image(workload, pod).filter(|_| !may_be_old) {
        format!("container {name} runs {got} instead of {wanted}")
    } else if !pod.ready {
        "is not ready".into()
    } else {
        match (&asked.question, &asked.answer) {
            (None, _) => return None,
            (Some(_), None) => "was not asked yet".into(),
            (Some(_), Some(Err(why))) => why.clone(),
            (Some(question), Some(Ok(answer))) => return wrong_answer(expected, *question, answer, pod),
        }
    };
    Some(Finding {
        class: FailureClass::VerificationFailed,
        object: format!("Pod/{}", pod.name),
        message,
        pod: Some(pod.name.clone()),
    })
}

fn wrong_image<'a>(workload: &'a WorkloadFacts, pod: &'a PodFacts) -> Option<(&'a str, &'a str, &'a str)> {
    workload.images.iter().find_map(|(name, wanted)| {
        let got = pod.images.iter().find(|(n, _)| n == name).map_or("nothing", |(_, image)| image.as_str());
        (got != wanted).then_some((name.as_str(), wanted.as_str(), got))
    })
}

fn wrong_answer(expected: &Expected, question: Question, answer: &Answer, pod: &PodFacts) -> Option<Finding> {
    let finding =
        |class, message| Finding { class, object: format!("Pod/{}", pod.name), message, pod: Some(pod.name.clone()) };
    if question == Question::BuildInfo
        && !expected.deployments.is_empty()
        && let Some(id) = answer.deployment_id.as_ref().filter(|id| !expected.deployments.contains(id))
    {
        let before = expected.deployments.join(", ");
        let message = format!("answers deployment {id} instead of {before}: it works on another database");
        return Some(finding(FailureClass::DataMissing, message));
    }
    if question.tells_version() && answer.version != expected.version {
        let images: Vec<&str> = pod.images.iter().map(|(_, image)| image.as_str()).collect();
        let message = format!(
            "answers version {} instead of {} (image {}; if the values pin an image, name the path in spec.dropValues)",
            answer.version,
            expected.version,
            images.join(", ")
        );
        return Some(finding(FailureClass::VerificationFailed, message));
    }
    let silent = question == Question::BuildInfo && !expected.deployments.is_empty() && answer.deployment_id.is_none();
    silent.then(|| {
        let message = "does not say which deployment it is, as it did before".to_owned();
        finding(FailureClass::VerificationFailed, message)
    })
}

/// Phase in which `kubectl` shows a claim that is being deleted. It holds on only until its pod ends.
const TERMINATING: &str = "Terminating";

impl From<&PersistentVolumeClaim> for ClaimStatus {
    /// The claim as it is; what its volume and the chart tell of it is not in it.
    fn from(claim: &PersistentVolumeClaim) -> Self {
        let ending = claim.metadata.deletion_timestamp.is_some();
        let status = claim.status.as_ref();
        let capacity = status.and_then(|status| status.capacity.as_ref()?.get("storage"));
        Self {
            name: claim.metadata.name.clone().unwrap_or_default(),
            uid: claim.metadata.uid.clone().unwrap_or_default(),
            volume: claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()),
            phase: if ending { Some(TERMINATING.into()) } else { status.and_then(|status| status.phase.clone()) },
            reclaim_policy: None,
            capacity: capacity.map(|quantity| quantity.0.clone()),
            note: None,
        }
    }
}

/// The claims that are not what they were: each must have the UID and the volume that it had, and must not be on its way
/// out.
#[must_use]
pub fn lost_claims(before: &[ClaimStatus], now: &BTreeMap<String, ClaimStatus>) -> Vec<Finding> {
    let lost = |claim: &ClaimStatus, message: String| Finding {
        class: FailureClass::DataMissing,
        object: format!("PersistentVolumeClaim/{}", claim.name),
        message,
        pod: None,
    };
    before
        .iter()
        .filter_map(|old| match now.get(&old.name) {
            None => Some(lost(old, format!("is gone (it had UID {})", old.uid))),
            Some(new) if new.uid != old.uid => {
                Some(lost(old, format!("is another one than before: UID {} instead of {}", new.uid, old.uid)))
            }
            Some(new) if new.phase.as_deref() == Some(TERMINATING) => {
                Some(lost(old, "is being deleted; it goes, with its data, as soon as its pod ends".into()))
            }
            Some(new) if old.volume.is_some() && new.volume != old.volume => Some(lost(
                old,
                format!(
                    "has volume {} instead of {}",
                    new.volume.as_deref().unwrap_or("none"),
                    old.volume.as_deref().unwrap_or_default()
                ),
            )),
            Some(_) => None,
        })
        .collect()
}

/// What was verified, as a line for people.
#[must_use]
pub fn summary(expected: &Expected, observed: &[Observed]) -> String {
    let live = || observed.iter().flat_map(|o| &o.pods).filter(|asked| !asked.pod.leaving);
    let asked = live().filter(|asked| asked.question.is_some_and(Question::tells_version)).count();
    let plural = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    if asked == 0 {
        return format!("{} with the wanted images", plural(live().count(), "pod runs", "pods run"));
    }
    let others = live().count() - asked;
    let others = if others == 0 {
        String::new()
    } else {
        format!("; {} with the wanted images", plural(others, "other runs", "others run"))
    };
    let same = if expected.deployments.is_empty() { "" } else { ", same deployment" };
    format!("{} {}{same}{others}", plural(asked, "pod answers", "pods answer"), expected.version)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn answer(version: &str, id: Option<&str>) -> Answer {
        Answer { pod: "coder-1".into(), version: version.into(), deployment_id: id.map(Into::into) }
    }

    fn server(answer: Result<Answer, String>) -> Observed {
        let images = vec![("coder".to_owned(), "coder:v2.31.7".to_owned())];
        Observed {
            object: "Deployment/coder".into(),
            workload: Some(WorkloadFacts {
                object: "Deployment/coder".into(),
                observed: true,
                desired: 1,
                total: 1,
                updated: 1,
                held_back: 0,
                ready: 1,
                available: 1,
                images: images.clone(),
            }),
            pods: vec![Asked {
                pod: PodFacts { name: "coder-1".into(), ready: true, images, ..PodFacts::default() },
                question: Some(Question::BuildInfo),
                answer: Some(answer),
            }],
        }
    }

    fn right() -> Observed {
        server(Ok(answer("2.31.7", Some("a"))))
    }

    fn expected() -> Expected {
        Expected::new("v2.31.7+x", &[answer("2.30.0", Some("a")), answer("2.30.0", Some("a"))])
    }

    fn messages(observed: Observed) -> Vec<String> {
        judge(&expected(), &[observed]).into_iter().map(|f| format!("{} {}", f.object, f.message)).collect()
    }

    #[test]
    fn all_is_well() {
        assert_eq!(messages(right()), Vec::<String>::new());
        assert_eq!(summary(&expected(), &[right()]), "1 pod answers 2.31.7, same deployment");
    }

    #[rstest]
    #[case(Ok(answer("2.30.0", Some("a"))), "answers version 2.30.0 instead of 2.31.7")]
    #[case(Ok(answer("2.31.7", Some("b"))), "works on another database")]
    #[case(Ok(answer("2.31.7", None)), "does not say which deployment")]
    #[case(Err("refused the connection".into()), "refused the connection")]
    fn a_wrong_answer_names_the_pod(#[case] answer: Result<Answer, String>, #[case] part: &str) {
        let found = messages(server(answer));
        assert!(found.len() == 1 && found[0].starts_with("Pod/coder-1 ") && found[0].contains(part), "{found:?}");
    }

    #[test]
    fn what_is_missing_in_the_rollout_is_named() {
        let change = |edit: fn(&mut WorkloadFacts)| {
            let mut observed = right();
            edit(observed.workload.as_mut().unwrap());
            messages(observed).join("; ")
        };
        assert!(change(|w| w.observed = false).contains("has not seen"));
        assert!(change(|w| w.updated = 0).contains("0 of 1 pods are updated"));
        assert!(change(|w| w.total = 3).contains("2 pods of the old template"));
        assert!(change(|w| w.ready = 0).contains("0 of 1 pods are ready"));
        assert!(change(|w| w.available = 0).contains("0 of 1 pods have been ready for long enough"));
        assert!(
            change(|w| (w.desired, w.total, w.updated, w.ready, w.available) = (2, 2, 2, 2, 2))
                .contains("1 of 2 pods were found")
        );
        assert!(change(|w| w.images[0].1 = "coder:v9".into()).contains("runs coder:v2.31.7 instead of coder:v9"));
    }

    #[test]
    fn pods_that_the_update_strategy_holds_back_are_not_waited_for() {
        let old = |held_back: i32| {
            let mut observed = right();
            let workload = observed.workload.as_mut().unwrap();
            (workload.desired, workload.total, workload.ready, workload.available) = (2, 2, 2, 2);
            workload.held_back = held_back;
            let mut pod = observed.pods[0].clone();
            pod.pod.images[0].1 = "coder:v2.30.0".into();
            pod.question = None;
            observed.pods.push(pod);
            messages(observed)
        };
        assert_eq!(old(1), Vec::<String>::new());
        assert_eq!(old(2), Vec::<String>::new());
        assert!(old(0)[0].contains("runs coder:v2.30.0 instead of"), "{:?}", old(0));
        let mut server = right();
        server.workload.as_mut().unwrap().held_back = 1;
        server.pods[0].answer = Some(Ok(answer("2.30.0", Some("a"))));
        assert!(messages(server)[0].contains("answers version 2.30.0"), "a server of Coder must be the new one");
    }

    #[test]
    fn pods_that_leave_are_not_asked_for() {
        let mut observed = right();
        let mut old = observed.pods[0].clone();
        (old.pod.leaving, old.answer) = (true, None);
        observed.pods.push(old);
        assert_eq!(messages(observed), Vec::<String>::new());
    }

    #[test]
    fn a_first_install_has_no_deployment_to_compare() {
        let expected = Expected::new("2.31.7", &[]);
        assert_eq!(judge(&expected, &[right()]), []);
        assert_eq!(summary(&expected, &[right()]), "1 pod answers 2.31.7");
    }

    #[test]
    fn claims_must_be_the_same_objects() {
        let claim = |uid: &str, volume: &str| ClaimStatus {
            name: "data".into(),
            uid: uid.into(),
            volume: Some(volume.into()),
            phase: None,
            reclaim_policy: None,
            capacity: None,
            note: None,
        };
        let lost = |now: Option<ClaimStatus>| {
            let now = now.into_iter().map(|c| (c.name.clone(), c)).collect();
            lost_claims(&[claim("u", "pv")], &now).first().map(|f| f.message.clone()).unwrap_or_default()
        };
        assert_eq!(lost(Some(claim("u", "pv"))), "");
        assert!(lost(None).contains("is gone"));
        let ending = ClaimStatus { phase: Some(TERMINATING.into()), ..claim("u", "pv") };
        assert!(lost(Some(ending)).contains("is being deleted"));
        assert!(lost(Some(claim("w", "pv"))).contains("another one"));
        assert!(lost(Some(claim("u", "pv2"))).contains("has volume pv2 instead of pv"));
    }
}
