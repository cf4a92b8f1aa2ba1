//! Whether what runs is what was wanted: a judgement over gathered facts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::endpoint::Question;
use super::image::{Image, may_be};
use super::workload::{PodFacts, WorkloadFacts};
use crate::api::{ClaimStatus, FailureClass};
use crate::core::helm::version;
use crate::core::helm::version::comparable;
use crate::core::rollout::inventory::{Answer, Inventory, NoAnswer, Silence};

/// What the pods must answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Version of Coder, without a leading v and without build metadata.
    pub version: String,
    /// Ids of the deployment (that is, of the database) that were answered before; empty if nothing answered.
    pub deployments: Vec<String>,
    /// The silences that are no failure, because nobody answered the runner before the change either: then a pod that is ready,
    /// with the wanted images, is taken for right.
    pub accepted: BTreeSet<Silence>,
}

impl Expected {
    /// From the chart's appVersion and the answers before the change.
    pub fn new(app_version: &str, before: &Inventory) -> Self {
        let answers = &before.answers;
        let mut deployments: Vec<String> = answers.iter().filter_map(|answer| answer.deployment_id.clone()).collect();
        deployments.sort();
        deployments.dedup();
        let silences = before.unanswered.iter().map(|silent| silent.silence);
        let silences = silences.chain([Silence::Unreachable, Silence::TurnedAway]);
        let accepted = if answers.is_empty() { silences.collect() } else { BTreeSet::new() };
        Self { version: comparable(app_version).to_owned(), deployments, accepted }
    }
}

/// A workload with its pods.
#[derive(Clone, Debug, Default)]
pub struct WorkloadPods {
    /// The workload as Kind/name.
    pub object: String,
    /// The workload; none if it does not exist.
    pub workload: Option<WorkloadFacts>,
    /// Its pods.
    pub pods: Vec<PodAnswer>,
}

/// A pod and its answer.
#[derive(Clone, Debug, Default)]
pub struct PodAnswer {
    /// The pod.
    pub pod: PodFacts,
    /// What it was asked; none if it is no server of Coder.
    pub question: Option<Question>,
    /// What it answered, or why it did not.
    pub answer: Option<Result<Answer, NoAnswer>>,
}

/// Something that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Class of the failure that it would be.
    pub class: FailureClass,
    /// Object as Kind/name.
    pub object: String,
    /// What is wrong with it.
    pub message: String,
    /// The pod whose log may explain it.
    pub pod: Option<String>,
}

impl Deviation {
    /// Whether no patience cures it: a pod that works on another database will not come back to the right one.
    pub fn is_final(&self) -> bool {
        self.class == FailureClass::DataMissing
    }
}

/// Everything about the workloads that is not as wanted, the worst first; nothing if all is well.
pub fn judge(expected: &Expected, observed: &[WorkloadPods]) -> Vec<Deviation> {
    let mut findings: Vec<Deviation> = observed.iter().flat_map(|observed| workload(expected, observed)).collect();
    findings.sort_by_key(|finding| !finding.is_final());
    findings
}

fn workload(expected: &Expected, observed: &WorkloadPods) -> Vec<Deviation> {
    let finding = |message: String, pod: Option<String>| Deviation {
        class: FailureClass::VerificationFailed,
        object: observed.object.clone(),
        message,
        pod,
    };
    let Some(facts) = &observed.workload else {
        return vec![finding("does not exist".into(), None)];
    };
    let live = || observed.pods.iter().filter(|asked| !asked.pod.leaving);
    let old = live().filter(|asked| rewritten(facts, &asked.pod).any(|image| image.is_wrong(false))).count();
    let may_be_old = i32::try_from(old).is_ok_and(|old| old <= facts.held_back);
    let mut findings: Vec<Deviation> = live().filter_map(|asked| pod(expected, facts, asked, may_be_old)).collect();
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
fn pod(expected: &Expected, workload: &WorkloadFacts, asked: &PodAnswer, may_be_old: bool) -> Option<Deviation> {
    let pod = &asked.pod;
    let told = asked.question.is_some_and(Question::tells_version) && matches!(asked.answer, Some(Ok(_)));
    let message = if let Some(trouble) = pod.trouble() {
        trouble
    } else if let Some(Rewritten { name, wanted, got, .. }) =
        rewritten(workload, pod).find(|image| image.is_wrong(told)).filter(|_| !may_be_old)
    {
        format!("container {name} runs {got} instead of {wanted}")
    } else if !pod.ready {
        pod.unready()
    } else {
        match (&asked.question, &asked.answer) {
            (None, _) => return None,
            (Some(_), None) => "was not asked yet".into(),
            (Some(_), Some(Err(silent))) if expected.accepted.contains(&silent.silence) => return None,
            (Some(_), Some(Err(silent))) => silent.why.clone(),
            (Some(question), Some(Ok(answer))) => return wrong_answer(expected, *question, answer, pod),
        }
    };
    Some(Deviation {
        class: FailureClass::VerificationFailed,
        object: format!("Pod/{}", pod.name),
        message,
        pod: Some(pod.name.clone()),
    })
}

/// A container of a pod that does not run the image that the template names.
#[derive(Clone, Copy)]
struct Rewritten<'a> {
    name: &'a str,
    wanted: &'a str,
    got: &'a str,
}

impl Rewritten<'_> {
    /// Whether it is another version. A webhook may take the image from a mirror or add a digest; what a server tells of its
    /// version counts for more than any image.
    fn is_wrong(&self, told: bool) -> bool {
        self.got.is_empty() || !(told || may_be(self.wanted, self.got))
    }
}

fn rewritten<'a>(workload: &'a WorkloadFacts, pod: &'a PodFacts) -> impl Iterator<Item = Rewritten<'a>> {
    let of_pod = |name: &str| pod.images.iter().find(|(n, _)| n == name).map_or("", |(_, image)| image.as_str());
    let all = workload.images.iter().map(move |(name, wanted)| Rewritten { name, wanted, got: of_pod(name) });
    all.filter(|image| image.wanted != image.got)
}

/// Whether an answered version is the wanted one: the release itself, a build of it that somebody made for themselves, or the
/// very version that the image's tag names.
fn is_wanted(answered: &str, wanted: &str, pod: &PodFacts) -> bool {
    let (Some(found), Some(release)) = (version::parse(answered), version::parse(wanted)) else {
        return answered == wanted;
    };
    let base = |version: &semver::Version| (version.major, version.minor, version.patch);
    let tagged = || pod.images.iter().any(|(_, image)| Image::of(image).version().is_some_and(|tag| tag == found));
    answered == wanted || version::is_build_of(&found, &release) || (base(&found) == base(&release) && tagged())
}

fn wrong_answer(expected: &Expected, question: Question, answer: &Answer, pod: &PodFacts) -> Option<Deviation> {
    let finding =
        |class, message| Deviation { class, object: format!("Pod/{}", pod.name), message, pod: Some(pod.name.clone()) };
    if question == Question::BuildInfo
        && !expected.deployments.is_empty()
        && let Some(id) = answer.deployment_id.as_ref().filter(|id| !expected.deployments.contains(id))
    {
        let before = expected.deployments.join(", ");
        let message = format!("answers deployment {id} instead of {before}: it works on another database");
        return Some(finding(FailureClass::DataMissing, message));
    }
    if question.tells_version() && !is_wanted(&answer.version, &expected.version, pod) {
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
    // A server that redirects keeps its id to itself by a setting, not because it has lost it.
    (silent && answer.withheld.is_none()).then(|| {
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
pub fn lost_claims(before: &[ClaimStatus], now: &BTreeMap<String, ClaimStatus>) -> Vec<Deviation> {
    let lost = |claim: &ClaimStatus, message: String| Deviation {
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
pub fn summary(expected: &Expected, observed: &[WorkloadPods]) -> String {
    let live = || observed.iter().flat_map(|o| &o.pods).filter(|asked| !asked.pod.leaving);
    let told = || live().filter(|asked| asked.question.is_some_and(Question::tells_version)).filter_map(answered);
    let silent = live().filter_map(|asked| asked.answer.as_ref()?.as_ref().err());
    let (asked, mute) = (told().count(), silent.clone().count());
    let plural = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let others = live().count() - asked - mute;
    let mut parts = Vec::new();
    if asked > 0 {
        let same = !expected.deployments.is_empty() && told().all(|answer| answer.deployment_id.is_some());
        let same = if same { ", same deployment" } else { "" };
        parts.push(format!("{} {}{same}", plural(asked, "pod answers", "pods answer"), expected.version));
    }
    if let Some(first) = silent.clone().next() {
        let ready =
            plural(mute, "pod is ready with the wanted images and", "pods are ready with the wanted images and");
        parts.push(format!("{ready} cannot be asked by the runner (Pod/{} {})", first.pod, first.why));
    }
    if others > 0 || parts.is_empty() {
        let runs = if parts.is_empty() { ("pod runs", "pods run") } else { ("other runs", "others run") };
        parts.push(format!("{} with the wanted images", plural(others, runs.0, runs.1)));
    }
    parts.extend(remarks(expected, observed));
    parts.join("; ")
}

fn answered(asked: &PodAnswer) -> Option<&Answer> {
    asked.answer.as_ref()?.as_ref().ok()
}

/// Most remarks that are made.
const REMARKS: usize = 4;

/// What is right and still worth knowing: images that were rewritten, builds of one's own, how a server was asked.
fn remarks(expected: &Expected, observed: &[WorkloadPods]) -> Vec<String> {
    let mut found = Vec::new();
    for observed in observed {
        for asked in observed.pods.iter().filter(|asked| !asked.pod.leaving) {
            let name = &asked.pod.name;
            for Rewritten { name: container, wanted, got } in
                observed.workload.iter().flat_map(|workload| rewritten(workload, &asked.pod))
            {
                found.push(format!("container {container} runs {got}, where the chart names {wanted}"));
            }
            let Some(answer) = answered(asked) else { continue };
            if asked.question.is_some_and(Question::tells_version) && answer.version != expected.version {
                found.push(format!("Pod/{name} calls itself {}", answer.version));
            }
            found.extend(answer.withheld.iter().chain(&answer.remarks).map(|remark| format!("Pod/{name} {remark}")));
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|remark| seen.insert(remark.clone()));
    found.truncate(REMARKS);
    found
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn answer(version: &str, id: Option<&str>) -> Answer {
        Answer {
            pod: "coder-1".into(),
            version: version.into(),
            deployment_id: id.map(Into::into),
            ..Answer::default()
        }
    }

    fn silent(silence: Silence) -> NoAnswer {
        NoAnswer { pod: "coder-1".into(), why: "refused the connection".into(), silence }
    }

    fn before(answers: Vec<Answer>) -> Inventory {
        Inventory { answers, ..Inventory::default() }
    }

    fn server(answer: Result<Answer, NoAnswer>) -> WorkloadPods {
        let images = vec![("coder".to_owned(), "coder:v2.31.7".to_owned())];
        WorkloadPods {
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
            pods: vec![PodAnswer {
                pod: PodFacts { name: "coder-1".into(), ready: true, images, ..PodFacts::default() },
                question: Some(Question::BuildInfo),
                answer: Some(answer),
            }],
        }
    }

    fn right() -> WorkloadPods {
        server(Ok(answer("2.31.7", Some("a"))))
    }

    fn expected() -> Expected {
        Expected::new("v2.31.7+x", &before(vec![answer("2.30.0", Some("a")), answer("2.30.0", Some("a"))]))
    }

    fn messages(observed: WorkloadPods) -> Vec<String> {
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
    #[case(Ok(answer("2.31.7-rc.1", Some("a"))), "answers version 2.31.7-rc.1 instead of 2.31.7")]
    #[case(Err(silent(Silence::Unreachable)), "refused the connection")]
    fn a_wrong_answer_names_the_pod(#[case] answer: Result<Answer, NoAnswer>, #[case] part: &str) {
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
        let expected = Expected::new("2.31.7", &Inventory::default());
        assert_eq!(judge(&expected, &[right()]), []);
        assert_eq!(summary(&expected, &[right()]), "1 pod answers 2.31.7");
    }

    #[rstest]
    #[case::mirror(
        "mirror.local/coder:v2.31.7",
        "container coder runs mirror.local/coder:v2.31.7, where the chart names coder:v2.31.7"
    )]
    #[case::digest("coder@sha256:ab", "container coder runs coder@sha256:ab, where the chart names coder:v2.31.7")]
    #[case::another_name("build/mine:7", "container coder runs build/mine:7, where the chart names coder:v2.31.7")]
    fn a_rewritten_image_is_a_remark_where_the_server_tells_its_version(#[case] image: &str, #[case] remark: &str) {
        let mut observed = right();
        observed.pods[0].pod.images[0].1 = image.into();
        assert_eq!(messages(observed.clone()), Vec::<String>::new());
        assert!(summary(&expected(), &[observed]).ends_with(&format!("; {remark}")));
    }

    #[rstest]
    #[case::mirror("mirror.local/coder:v2.31.7", false)]
    #[case::another_version("mirror.local/coder:v2.30.0", true)]
    #[case::nothing("", true)]
    fn the_image_decides_where_nobody_tells_the_version(#[case] image: &str, #[case] wrong: bool) {
        let mut observed = right();
        observed.pods[0].pod.images[0].1 = image.into();
        (observed.pods[0].question, observed.pods[0].answer) = (None, None);
        assert_eq!(!messages(observed.clone()).is_empty(), wrong);
        // Nor does one that the runner cannot ask.
        observed.pods[0].question = Some(Question::BuildInfo);
        observed.pods[0].answer = Some(Err(silent(Silence::Unreachable)));
        let expected = Expected::new("2.31.7", &Inventory::default());
        assert_eq!(!judge(&expected, &[observed]).is_empty(), wrong);
    }

    #[rstest]
    #[case::build("2.31.7-acme1", "coder:v2.31.7", true)]
    #[case::development("2.31.7-devel", "mirror/coder:v2.31.7-acme1", true)]
    #[case::candidate("2.31.7-rc.1", "coder:v2.31.7", false)]
    #[case::candidate_by_tag("2.31.7-rc.1", "coder:v2.31.7-rc.1", true)]
    #[case::other("2.31.8-acme1", "coder:v2.31.8-acme1", false)]
    fn a_build_of_ones_own_is_the_release(#[case] answered: &str, #[case] image: &str, #[case] right: bool) {
        let mut observed = server(Ok(answer(answered, Some("a"))));
        observed.pods[0].pod.images[0].1 = image.into();
        assert_eq!(messages(observed.clone()).is_empty(), right);
        assert!(summary(&expected(), &[observed]).contains(&format!("Pod/coder-1 calls itself {answered}")));
    }

    #[test]
    fn whoever_answered_nobody_before_need_not_answer_now() {
        let nobody = |silence| Inventory { unanswered: vec![silent(silence)], ..Inventory::default() };
        let found = |before: &Inventory, silence| {
            judge(&Expected::new("2.31.7", before), &[server(Err(silent(silence)))]).len()
        };
        assert_eq!(found(&nobody(Silence::Unreachable), Silence::Unreachable), 0);
        assert_eq!(found(&nobody(Silence::TurnedAway), Silence::Unreachable), 0);
        assert_eq!(found(&nobody(Silence::Unreachable), Silence::Wrong), 1, "an error is another matter");
        assert_eq!(found(&nobody(Silence::Wrong), Silence::Wrong), 0);
        assert_eq!(found(&before(vec![answer("2.30.0", None)]), Silence::Unreachable), 1, "it answered before");
        let expected = Expected::new("2.31.7", &nobody(Silence::Unreachable));
        assert_eq!(
            summary(&expected, &[server(Err(silent(Silence::Unreachable)))]),
            "1 pod is ready with the wanted images and cannot be asked by the runner (Pod/coder-1 refused the connection)"
        );
        assert_eq!(judge(&expected, &[server(Ok(answer("2.30.0", None)))]).len(), 1, "what is answered counts");
    }

    #[test]
    fn a_deployment_that_is_withheld_is_a_remark() {
        let withheld = Some("does not tell its deployment (a setting)".to_owned());
        let observed = server(Ok(Answer { withheld, ..answer("2.31.7", None) }));
        assert_eq!(messages(observed.clone()), Vec::<String>::new());
        let line = "1 pod answers 2.31.7; Pod/coder-1 does not tell its deployment (a setting)";
        assert_eq!(summary(&expected(), &[observed]), line);
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
