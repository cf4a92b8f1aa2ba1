//! Coder is interrupted for a change: which Deployments are scaled to zero, which number of replicas comes back, and who
//! owns that number.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use crate::core::helm::documents::Documents;
use crate::core::plan::Plan;
use crate::core::rollout::endpoint::{Question, endpoint};

/// Whether the pods of a Deployment serve Coder's API, and so work on its database. Not the proxies of Coder Classic, whose
/// pods take hours to end.
pub fn serves_api(plan: &Plan, deployment: &Deployment) -> bool {
    let template = deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
    endpoint(&plan.chart_name, plan.line, &pod).is_some_and(|endpoint| endpoint.question.tells_version())
}

/// Whether Coder can be asked for builds and for its health: only Coder v2 has these questions.
pub fn answers_questions(question: Question) -> bool {
    question == Question::BuildInfo
}

/// How a change has ended, for the replicas of a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// helm has succeeded; the chart sets this number, or none.
    Succeeded(Option<i32>),
    /// It has failed, before or after helm changed something.
    Failed,
}

/// The number of replicas that a Deployment gets after a change; none if it has the right one.
///
/// What the chart sets is right. What it leaves open is restored, whatever anybody else has set meanwhile. After a failure a
/// Deployment that is not at zero any more has got its number from helm.
pub fn replicas_after(remembered: i32, live: i32, ended: ChangeOutcome) -> Option<i32> {
    let wanted = match ended {
        ChangeOutcome::Succeeded(Some(chart)) if live == 0 => chart,
        ChangeOutcome::Succeeded(None) => remembered,
        ChangeOutcome::Failed if live == 0 => remembered,
        ChangeOutcome::Succeeded(Some(_)) | ChangeOutcome::Failed => live,
    };
    (wanted != live).then_some(wanted)
}

/// The number of replicas that a manifest sets for a Deployment, if it sets one.
pub fn replicas_of(manifest: &Documents, name: &str) -> Option<i32> {
    let deployment = manifest.of_kind("Deployment").find(|object| object["metadata"]["name"] == name)?;
    deployment["spec"]["replicas"].as_i64().and_then(|replicas| replicas.try_into().ok())
}

/// The owners of fields without this one; none if it owns nothing.
///
/// Server-side apply refuses to change a field that another program has set. A number that nobody owns is helm's for the
/// taking.
pub fn disowned(owners: &[ManagedFieldsEntry], manager: &str) -> Option<Vec<ManagedFieldsEntry>> {
    let others: Vec<_> = owners.iter().filter(|owner| owner.manager.as_deref() != Some(manager)).cloned().collect();
    (others.len() < owners.len()).then_some(others)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::ProductLine;
    use crate::core::plan::sample;

    #[rstest]
    #[case::the_chart_has_set_it(3, 2, ChangeOutcome::Succeeded(Some(2)), None)]
    #[case::helm_left_it_at_zero(3, 0, ChangeOutcome::Succeeded(Some(2)), Some(2))]
    #[case::the_chart_wants_zero(3, 0, ChangeOutcome::Succeeded(Some(0)), None)]
    #[case::the_chart_leaves_it_open(3, 0, ChangeOutcome::Succeeded(None), Some(3))]
    #[case::recreated_with_the_default(3, 1, ChangeOutcome::Succeeded(None), Some(3))]
    #[case::nothing_was_applied(3, 0, ChangeOutcome::Failed, Some(3))]
    #[case::helm_failed_after_it(3, 2, ChangeOutcome::Failed, None)]
    fn the_number_comes_back(
        #[case] remembered: i32,
        #[case] live: i32,
        #[case] ended: ChangeOutcome,
        #[case] expected: Option<i32>,
    ) {
        assert_eq!(replicas_after(remembered, live, ended), expected);
    }

    #[test]
    fn a_manifest_says_a_number_or_none() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 2}\n---\n\
                    apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\nspec: {}\n";
        let manifest = Documents::parse(text, "coder").unwrap();
        assert_eq!(["a", "b", "c"].map(|name| replicas_of(&manifest, name)), [Some(2), None, None]);
    }

    #[test]
    fn what_serves_the_api_is_stopped_and_no_more() {
        let deployment = |container: &str| -> Deployment {
            serde_json::from_value(json!({"metadata": {"name": container}, "spec": {"selector": {}, "template": {
                "spec": {"containers": [{"name": container, "image": "i"}]}}}}))
            .unwrap()
        };
        let classic = Plan { line: ProductLine::V1, ..sample() };
        let stopped = ["cemanager", "coderd", "envproxy", "nginx"].map(|name| serves_api(&classic, &deployment(name)));
        assert_eq!(stopped, [true, true, false, false]);
        assert!(serves_api(&sample(), &deployment("coder")) && !serves_api(&sample(), &deployment("provisioner")));
    }

    #[test]
    fn only_our_own_claim_to_a_field_is_given_up() {
        let owner = |manager: &str| ManagedFieldsEntry { manager: Some(manager.into()), ..Default::default() };
        let owners = [owner("helm"), owner("runner"), owner("kube-controller-manager")];
        let left = disowned(&owners, "runner").unwrap();
        assert_eq!(left, [owner("helm"), owner("kube-controller-manager")]);
        assert_eq!(disowned(&left, "runner"), None);
    }
}
