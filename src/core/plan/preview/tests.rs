//! Whole previews, as people read them.

use indoc::indoc;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::api::{
    CheckName, CoderUpgradeSpec, CoderUpgradeStatus, Interruption, InterruptionLength, ObjectCounts, Phase,
    PlannedRepair, Recovery, Remedy,
};
use crate::core::object::ObjectRef;
use crate::core::plan;
use crate::core::plan::difference::{ChangeKind, CrossedVersion, FieldChange, ImageChange, ObjectChange, ValueChange};

fn upgrade(spec: serde_json::Value) -> CoderUpgrade {
    let spec: CoderUpgradeSpec = serde_json::from_value(spec).unwrap();
    CoderUpgrade { metadata: ObjectMeta { name: Some("coder".into()), ..ObjectMeta::default() }, spec, status: None }
}

fn around(upgrade: &CoderUpgrade) -> PreviewInput<'_> {
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    PreviewInput { upgrade, request: "asked", namespace: "ns", siblings: &[], claimed_by: None, now }
}

fn object(kind: &str, name: &str, change: ChangeKind, fields: Vec<FieldChange>) -> ObjectChange {
    let object = ObjectRef { api_version: "v1".into(), kind: kind.into(), namespace: None, name: name.into() };
    ObjectChange { object, kind: change, fields }
}

fn field(path: &str, before: Option<&str>, after: Option<&str>) -> FieldChange {
    FieldChange { path: path.into(), before: before.map(Into::into), after: after.map(Into::into) }
}

fn installed() -> Installed {
    let (version, status) = ("2.30.0".to_owned(), "deployed".to_owned());
    Installed { app_version: Some(version.clone()), version, revision: 3, status, line: ProductLine::V2 }
}

/// A plan with something of everything.
fn rich() -> Plan {
    let labels = |before: &str, after| vec![field(r"metadata.labels.helm\.sh/chart", Some(before), Some(after))];
    let message = "the selector of a Deployment cannot be changed".to_owned();
    let repairs = vec![PlannedRepair {
        remedy: Remedy::Replace,
        object: "Deployment/coder".into(),
        message,
        needs_approval: false,
    }];
    let value = |path: &str, kind, shown| ValueChange { path: path.into(), kind, shown };
    Plan {
        from: Some(installed()),
        version: "2.31.7".into(),
        forecast: Forecast {
            hops: vec!["2.32.0".into()],
            repairs,
            not_rehearsed: vec!["hook Job/migrate (pre-upgrade)".into()],
            interruption: Interruption { length: InterruptionLength::None, reason: "Old pods serve on.".into() },
            objects: ObjectCounts { added: 1, changed: 1, removed: 1, replaced: 1 },
        },
        findings: vec![Finding {
            check: CheckName::BackupConfigured,
            severity: Severity::Warning,
            object: None,
            field: Some("spec.backup".into()),
            message: "no backup is made".into(),
            next_step: "Set spec.backup.".into(),
        }],
        difference: Difference {
            objects: vec![
                object("ConfigMap", "new", ChangeKind::Added, vec![]),
                object(
                    "Deployment",
                    "coder",
                    ChangeKind::Replaced,
                    vec![
                        field("spec.template.spec.containers[coder].env[URL].value", None, None),
                        field("spec.template.spec.containers[coder].image", Some("c:1"), Some("c:2")),
                        field("spec.template.spec.serviceAccountName", None, Some("coder")),
                        field("spec.paused", Some("a b"), None),
                    ],
                ),
                object("Service", "coder", ChangeKind::Changed, labels("coder-1", "coder-2")),
                object("Role", "old", ChangeKind::Removed, vec![]),
            ],
            values: vec![
                value("coder.image.tag", ChangeKind::Removed, Some((Some("v2.30.0".into()), None))),
                value("coder.password", ChangeKind::Changed, None),
                value("coder.replicaCount", ChangeKind::Changed, Some((Some(1.into()), Some(2.into())))),
            ],
            images: vec![ImageChange {
                object: "Deployment/coder".into(),
                container: "coder".into(),
                before: Some("c:1".into()),
                after: Some("c:2".into()),
            }],
            versions: vec![CrossedVersion { version: "2.31.7".into(), notes: "https://notes.example/2.31.7".into() }],
        },
        ..plan::sample()
    }
}

#[test]
fn a_plan_reads_from_the_urgent_to_the_detailed() {
    let upgrade = upgrade(json!({"recovery": "Stop", "suspend": true}));
    assert_eq!(
        Preview::of(rich(), &around(&upgrade)).text(),
        indoc! {"
            CoderUpgrade coder in namespace ns, Helm release coder
            Upgrade from 2.30.0 to 2.31.7. It waits for an approval.

              installed     2.30.0 (revision 3, deployed); no server answered
              wanted        2.32.0
              path          2.30.0 -> 2.31.7 -> 2.32.0; this plan is for the first hop, to 2.31.7
              interruption  None. Old pods serve on.
              plan          0123456789ab

            Checks
              warning: BackupConfigured (spec.backup): no backup is made
                Next: Set spec.backup.

            Before it begins
              waits: Nothing new is begun while spec.suspend is true. (spec.suspend)
              waits: The repairs need Repair, which is more than Stop allows. (spec.recovery)

            Repairs that are made before helm runs
              Replace Deployment/coder: the selector of a Deployment cannot be changed

            Versions that are skipped
              2.31.7: https://notes.example/2.31.7

            Images
              Deployment/coder coder: c:1 -> c:2

            Objects: 1 added, 1 changed, 1 removed, 1 recreated
              + ConfigMap/new
              ! Deployment/coder is recreated
                  spec.template.spec.containers[coder].env[URL].value (not shown)
                  spec.template.spec.containers[coder].image: c:1 -> c:2
                  spec.template.spec.serviceAccountName: coder (new)
                  spec.paused: \"a b\" (goes)
              - Role/old
              ~ only the labels of the chart's version: Service/coder

            Values: 0 added, 2 changed, 1 dropped
              - coder.image.tag: v2.30.0
              ~ coder.password (not shown)
              ~ coder.replicaCount: 1 -> 2

            Not rehearsed
              hook Job/migrate (pre-upgrade)

            To allow it
              kubectl annotate --overwrite coderupgrade coder -n ns coderupgrade.dev/approve=0123456789ab/repair
        "}
    );
}

#[test]
fn a_comment_hides_the_long_parts_and_takes_nothing_for_markup() {
    let upgrade = upgrade(json!({}));
    let mut plan = rich();
    plan.findings[0].message = "a | b <script> `c`".into();
    plan.difference.values[0].path = "```".into();
    let text = Preview::of(plan, &around(&upgrade)).markdown();
    assert!(text.starts_with("### Coder upgrade `ns/coder`: changes\n\nUpgrade from 2.30.0 to 2.31.7.\n"), "{text}");
    for part in [
        "| installed | 2.30.0 (revision 3, deployed); no server answered |",
        "- warning: BackupConfigured (spec.backup): a \\| b &lt;script> \\`c\\`\n  <br>Next: Set spec.backup.",
        "<details><summary>Objects: 1 added, 1 changed, 1 removed, 1 recreated</summary>\n\n```diff\n+ ConfigMap/new\n",
        "````diff\n- ```: v2.30.0\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
}

#[test]
fn a_comment_is_never_too_long() {
    let upgrade = upgrade(json!({}));
    let mut plan = rich();
    plan.difference.values = vec![plan.difference.values[0].clone(); 3000];
    let text = Preview::of(plan, &around(&upgrade)).markdown();
    assert!(
        text.len() < 65_536 && text.contains("Values: 0 added, 0 changed, 3000 dropped**: too long"),
        "{}",
        text.len()
    );
}

#[rstest]
#[case::changes(json!({}), "", Verdict::Changes, None)]
#[case::manual(json!({"approval": "Manual"}), "", Verdict::NeedsApproval, Some("0123456789ab"))]
#[case::approved(json!({"approval": "Manual"}), "0123456789ab", Verdict::Changes, None)]
#[case::stale(json!({"approval": "Manual"}), "ba9876543210", Verdict::NeedsApproval, Some("0123456789ab"))]
#[case::beyond(json!({"recovery": "Stop"}), "", Verdict::NeedsApproval, Some("0123456789ab/repair"))]
#[case::plan_only(json!({"recovery": "Stop"}), "0123456789ab", Verdict::NeedsApproval, Some("0123456789ab/repair"))]
#[case::repairs(json!({"recovery": "Stop", "approval": "Manual"}), "0123456789ab/repair", Verdict::Changes, None)]
fn what_a_person_must_allow_is_told(
    #[case] spec: serde_json::Value,
    #[case] given: &str,
    #[case] verdict: Verdict,
    #[case] wanted: Option<&str>,
) {
    let mut upgrade = upgrade(spec);
    upgrade.annotations_mut().insert("coderupgrade.dev/approve".into(), given.into());
    let preview = Preview::of(rich(), &around(&upgrade));
    let value = preview.approve.as_deref().and_then(|command| command.split('=').next_back());
    assert_eq!((preview.verdict, value), (verdict, wanted));
}

#[rstest]
#[case::the_next_hop("a", Phase::Upgrading, "asked", Verdict::Changes)]
#[case::another_request("a", Phase::Upgrading, "before", Verdict::NeedsApproval)]
#[case::a_change_that_has_ended("a", Phase::Failed, "asked", Verdict::NeedsApproval)]
#[case::nothing_was_approved("", Phase::Suspended, "asked", Verdict::NeedsApproval)]
fn the_path_is_approved_once_as_for_the_controller(
    #[case] approved: &str,
    #[case] phase: Phase,
    #[case] request: &str,
    #[case] verdict: Verdict,
) {
    let mut upgrade = upgrade(json!({"approval": "Manual"}));
    let (request, approved_plan) = (request.to_owned(), approved.to_owned());
    upgrade.status = Some(CoderUpgradeStatus { phase, request, approved_plan, ..Default::default() });
    assert_eq!(Preview::of(rich(), &around(&upgrade)).verdict, verdict);
}

#[rstest]
#[case::of_this_plan("0123456789ab", Verdict::Changes)]
#[case::of_another("ba9876543210", Verdict::NeedsApproval)]
fn repairs_are_approved_for_one_plan(#[case] id: &str, #[case] verdict: Verdict) {
    let mut upgrade = upgrade(json!({"recovery": "Stop"}));
    let known = json!({"id": id, "to": "2.31.7", "action": "Upgrade", "chartDigest": "", "secretName": ""});
    upgrade.status = Some(CoderUpgradeStatus {
        request: "asked".into(),
        phase: Phase::AwaitingWindow,
        approved: Some(Recovery::Repair),
        plan: Some(serde_json::from_value(known).unwrap()),
        ..Default::default()
    });
    assert_eq!(Preview::of(rich(), &around(&upgrade)).verdict, verdict);
}

#[test]
fn nothing_to_do_and_a_refusal_are_no_changes() {
    let upgrade = upgrade(json!({"approval": "Manual"}));
    let nothing = Plan { action: PlannedAction::Nothing, from: Some(installed()), ..plan::sample() };
    let preview = Preview::of(nothing, &around(&upgrade));
    assert_eq!((preview.verdict.exit_code(), preview.gates.len(), &preview.approve), (0, 0, &None));

    let mut refused = rich();
    refused.findings[0].severity = Severity::Refusal;
    let preview = Preview::of(refused, &around(&upgrade));
    assert_eq!((preview.verdict.exit_code(), &preview.approve), (4, &None));
    assert!(preview.text().contains("REFUSED: BackupConfigured"), "{}", preview.text());

    let problem = Problem::new(FailureClass::Downgrade, "2.30.0 is older").field("spec.version");
    assert!(is_refusal(&problem));
    let text = Preview::refused(problem, &around(&upgrade)).text();
    assert!(text.contains("Downgrade (spec.version): 2.30.0 is older\n    Next: Choose a version"), "{text}");
}

#[rstest]
#[case(FailureClass::RenderFailed, true)]
#[case(FailureClass::ReleaseLocked, true)]
#[case(FailureClass::RepositoryUnreachable, false)]
#[case(FailureClass::VersionNotFound, false)]
#[case(FailureClass::Forbidden, false)]
fn what_could_not_be_reached_is_no_refusal(#[case] class: FailureClass, #[case] refusal: bool) {
    assert_eq!(is_refusal(&Problem::new(class, "x")), refusal);
}

#[test]
fn every_gate_is_told() {
    let upgrade = upgrade(json!({
        "dependsOn": [{"name": "database"}],
        "approval": "Manual",
        "window": {"days": ["Mon"], "start": "22:00", "end": "04:00", "timeZone": "Europe/Berlin"},
        "backup": {"cronJob": "dump", "maxAge": "90m"},
    }));
    let around = PreviewInput { claimed_by: Some("other"), ..around(&upgrade) };
    let gates = Preview::of(rich(), &around).gates;
    let told: Vec<String> = gates.iter().map(|gate| format!("{} {} {}", gate.field, gate.open, gate.message)).collect();
    assert_eq!(
        told,
        [
            "spec.release false CoderUpgrade other is for release coder already. Delete one of the two.",
            "spec.dependsOn false CoderUpgrade database must be ready first (spec.dependsOn), but does not exist in this namespace. Create it, or take it out of spec.dependsOn.",
            "spec.approval false A person must approve this plan.",
            "spec.window false The window is closed (spec.window); it opens on Mon 2026-11-23 22:00 (Europe/Berlin).",
            "spec.backup true A Job of CronJob/dump must succeed first; one that is not older than 1h30m counts.",
        ]
    );
}
