//! P7 and design 5: what a change would break is found before it begins, is named with what to do, and stays as it is.

use crate::common::{World, is, observed};
use coder_upgrade_operator::api::{CheckName, CoderUpgrade, FailureClass, Finding, Phase, Severity};
use rstest::rstest;
use serde_json::{Value, json};

/// Waits until a check has refused the present declaration, and sees that nothing was changed.
async fn refused(world: &World, check: CheckName) -> (CoderUpgrade, Finding) {
    let refusal = move |object: &CoderUpgrade| {
        let checks = object.status.as_ref().map(|status| status.checks.clone()).unwrap_or_default();
        checks.into_iter().find(|finding| finding.check == check && finding.severity == Severity::Refusal)
    };
    let stalled = move |o: &CoderUpgrade| observed(o) && is(o, "Stalled", "True") && refusal(o).is_some();
    let object = world.until("coder", &format!("refused by {check}"), stalled).await;
    let finding = refusal(&object).unwrap();
    assert!(finding.message.len() > 20 && finding.next_step.ends_with('.'), "{finding:?}");
    assert!(finding.object.is_some() || finding.field.is_some(), "it is about something: {finding:?}");
    let status = object.status.as_ref().unwrap();
    assert!(status.phase == Phase::Failed && status.failure.is_some(), "{status:?}");
    assert_eq!(world.release().await, (1, "deployed".into()), "the release is as it was");
    assert_eq!(world.job_counts().await.1, 0, "no upgrade was begun");
    (object, finding)
}

fn class(object: &CoderUpgrade) -> FailureClass {
    object.status.as_ref().unwrap().failure.as_ref().unwrap().class
}

fn found(object: &CoderUpgrade, check: CheckName, severity: Severity) -> bool {
    let checks = &object.status.as_ref().unwrap().checks;
    checks.iter().any(|finding| finding.check == check && finding.severity == severity)
}

fn to(repository: &str, version: &str, more: &Value) -> Value {
    let mut spec = json!({"version": version, "chart": {"repository": repository}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

/// Declares version 2.31.7 of Coder v2 with more than the version.
async fn declare(world: &World, more: Value) {
    world.declare("coder", to(&world.repositories().v2, "2.31.7", &more)).await;
}

/// Settings of a server that calls itself another version. As a value it is hidden wherever it is repeated.
fn answers(version: &str) -> [String; 2] {
    ["testbed.env[0].name=CODER_SIM_ANSWER_VERSION".into(), format!("testbed.env[0].value={version}")]
}

#[rstest]
#[case::image(
    "line-image",
    vec!["coder.image.repo=docker.io/coderenvs/coder-service".into()],
    CheckName::ProductLine,
    "coderenvs/coder-service:v2.30.0"
)]
#[case::answer("line-answer", answers("1.44.3").to_vec(), CheckName::ProductLine, "answers that it is Coder Classic (v1)")]
#[case::newer("runs-newer", answers("2.32.0").to_vec(), CheckName::Downgrade, "already")]
#[tokio::test]
async fn what_runs_counts_and_not_only_the_chart(
    #[case] name: &str,
    #[case] settings: Vec<String>,
    #[case] check: CheckName,
    #[case] words: &str,
) {
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let world = World::with_v2(name, "2.30.0", &settings).await;
    declare(&world, json!({})).await;
    let (object, finding) = refused(&world, check).await;
    assert!(finding.message.contains(words), "{finding:?}");
    assert!(finding.object.as_deref().is_some_and(|object| object.starts_with("Pod/coder")), "{finding:?}");
    let expected = match check {
        CheckName::Downgrade => FailureClass::Downgrade,
        _ => FailureClass::ProductLineChanged,
    };
    assert_eq!((class(&object), finding.field.as_deref()), (expected, Some("spec.version")));
    world.finish().await;
}

#[tokio::test]
async fn a_chart_of_the_other_line_and_one_for_another_kubernetes_are_not_even_rendered() {
    let world = World::with_v2("line-chart", "2.30.0", &[]).await;
    world.declare("coder", to(&world.repositories().v1, "1.17.0", &json!({}))).await;
    let (object, finding) = refused(&world, CheckName::ProductLine).await;
    assert_eq!(class(&object), FailureClass::ProductLineChanged);
    assert!(finding.message.contains("both charts are called coder"), "{finding:?}");

    world.declare("coder", to(&world.repositories().faults, "2.31.21", &json!({}))).await;
    let (object, finding) = refused(&world, CheckName::KubeVersion).await;
    assert_eq!((class(&object), finding.field.as_deref()), (FailureClass::Incompatible, Some("spec.version")));
    assert!(finding.message.contains(">=1.99.0-0"), "{finding:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_pinned_image_is_dropped_with_the_entry_that_is_offered() {
    let world = World::with_v2("pinned", "2.30.0", &["coder.image.tag=v2.30.0"]).await;
    declare(&world, json!({})).await;
    let (object, finding) = refused(&world, CheckName::ImagePin).await;
    assert_eq!((class(&object), finding.field.as_deref()), (FailureClass::CheckRefused, Some("coder.image.tag")));
    assert!(finding.next_step.contains("add coder.image.tag to spec.dropValues"), "{finding:?}");
    declare(&world, json!({"dropValues": ["coder.image.tag"]})).await;
    world.ready("coder").await;
    world.finish().await;
}

#[tokio::test]
async fn each_override_lets_its_own_check_pass_and_no_other() {
    let world = World::with_v2("database", "2.30.0", &[]).await;
    // Without any variable the chart starts on a database inside of the pod.
    let silent = json!({"coder": {"env": [{"name": "CODER_ACCESS_URL", "value": "https://coder.example.com"}]}});
    declare(&world, json!({"values": silent})).await;
    let (object, finding) = refused(&world, CheckName::DatabaseTarget).await;
    assert_eq!(finding.object.as_deref(), Some("Deployment/coder"));
    assert_eq!(finding.field.as_deref(), Some("spec.template.spec.containers[coder].env[CODER_PG_CONNECTION_URL]"));
    assert!(found(&object, CheckName::ExternalDatabase, Severity::Refusal));
    assert!(
        object.status.as_ref().unwrap().message.contains("one more refusal: ExternalDatabase"),
        "{:?}",
        object.status
    );

    declare(&world, json!({"values": silent, "overrides": ["DatabaseTarget"]})).await;
    let (object, finding) = refused(&world, CheckName::ExternalDatabase).await;
    assert_eq!(finding.field.as_deref(), Some("coder.env"));
    assert!(found(&object, CheckName::DatabaseTarget, Severity::Overridden));

    // The same URL elsewhere may be another one: nobody looks into the Secret.
    world
        .create_secret(
            "other-url",
            json!({"url": "postgres://coder:correct-horse-battery@database:5432/coder?sslmode=disable"}),
        )
        .await;
    let url =
        json!({"name": "CODER_PG_CONNECTION_URL", "valueFrom": {"secretKeyRef": {"name": "other-url", "key": "url"}}});
    let values = json!({"coder": {"env": [url]}});
    declare(&world, json!({"values": values})).await;
    let (_, finding) = refused(&world, CheckName::DatabaseTarget).await;
    assert!(
        finding.message.contains("Secret/other-url") && finding.message.contains("Secret/coder-db-url"),
        "{finding:?}"
    );

    // It is the same: so the change is made, and what was overridden stays recorded.
    declare(&world, json!({"values": values, "overrides": ["DatabaseTarget"]})).await;
    let object = world.ready("coder").await;
    let status = object.status.as_ref().unwrap();
    assert!(found(&object, CheckName::DatabaseTarget, Severity::Overridden), "{:?}", status.checks);
    assert_eq!(status.history[0].overridden, [CheckName::DatabaseTarget]);
    world.finish().await;
}

#[tokio::test]
async fn values_that_a_newer_chart_ignores_do_not_lead_to_an_empty_database() {
    let world = World::new("ignored").await;
    world.database().await;
    let external =
        ["postgres.useDefault=false", "postgres.host=database", "postgres.user=coder", "postgres.database=coder"];
    let pinned = external.into_iter().chain(["cemanager.image=docker.io/coderenvs/coder-service:1.26.0"]);
    let pinned: Vec<_> = pinned.collect();
    world.install("coder", &world.repositories().faults, "1.26.0", "coder-v1-values.yaml", &pinned).await;
    let faults = &world.repositories().faults;
    world.declare("coder", to(faults, "1.27.0", &json!({}))).await;
    let (object, finding) = refused(&world, CheckName::DatabaseTarget).await;
    assert_eq!(finding.object.as_deref(), Some("Deployment/coderd"));
    assert!(finding.message.contains("an empty one") && finding.message.contains("timescale"), "{finding:?}");
    assert!(finding.next_step.contains("postgres.default.enable"), "{finding:?}");
    let status = object.status.unwrap();
    assert!(status.message.contains("an empty one"), "the worst is told first: {}", status.message);
    let others = format!(
        "RemovedValues ({} times)",
        status.checks.iter().filter(|f| f.check == CheckName::RemovedValues).count()
    );
    assert!(status.message.contains("ImagePin") && status.message.contains(&others), "{}", status.message);
    let renamed = status.checks;
    let renamed = renamed.iter().find(|finding| finding.field.as_deref() == Some("postgres.useDefault")).unwrap();
    assert!(renamed.next_step.contains("add postgres.useDefault to spec.dropValues"), "{renamed:?}");

    // What the next steps say, done.
    let translated = json!({
        "dropValues": ["postgres.useDefault", "devurls.host", "cemanager.image"],
        "values": {"postgres": {"default": {"enable": false}}, "coderd": {"devurlsHost": "*.dev.example.com"}},
    });
    world.declare("coder", to(faults, "1.27.0", &translated)).await;
    world.ready("coder").await;
    world.finish().await;
}

#[tokio::test]
async fn a_value_that_the_chart_refuses_is_translated() {
    let world = World::with_v2("renamed", "2.30.0", &[]).await;
    declare(&world, json!({"values": {"coder": {"tls": {"secretName": "tls"}}}})).await;
    let (object, finding) = refused(&world, CheckName::RemovedValues).await;
    assert_eq!((class(&object), finding.field.as_deref()), (FailureClass::RenderFailed, Some("coder.tls.secretName")));
    assert!(finding.next_step.contains("coder.tls.secretNames"), "{finding:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_release_of_flux_or_argo_cd_is_left_to_them() {
    let world = World::with_v2("managed", "2.30.0", &[]).await;
    let flux = ["helm.toolkit.fluxcd.io/name=coder-dev", "helm.toolkit.fluxcd.io/namespace=flux-system"];
    world.kubectl(&[&["label", "deployment", "coder"], &flux[..]].concat()).await;
    declare(&world, json!({})).await;
    let (object, finding) = refused(&world, CheckName::ReleaseManager).await;
    assert_eq!((class(&object), finding.object.as_deref()), (FailureClass::ManagedElsewhere, Some("Deployment/coder")));
    assert!(finding.message.contains("HelmRelease/coder-dev in flux-system"), "{finding:?}");

    world.kubectl(&["label", "deployment", "coder", "helm.toolkit.fluxcd.io/name-"]).await;
    let argo = "argocd.argoproj.io/tracking-id=dev:apps/Deployment:coder/coder";
    world.kubectl(&["annotate", "deployment", "coder", argo]).await;
    declare(&world, json!({"historyLimit": 9})).await;
    let (_, finding) = refused(&world, CheckName::ReleaseManager).await;
    assert!(finding.message.contains("Application dev"), "{finding:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_right_that_the_runner_lacks_is_named() {
    let world = World::with_v2("rights", "2.30.0", &[]).await;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "coder"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "coder"}}},
    });
    declare(&world, json!({"values": {"extraTemplates": [budget]}})).await;
    let (object, finding) = refused(&world, CheckName::RunnerRights).await;
    assert_eq!(class(&object), FailureClass::Forbidden);
    assert!(finding.message.contains("poddisruptionbudgets"), "{finding:?}");

    // What the rehearsal does not need is asked for.
    let role: Value =
        serde_json::from_str(&world.kubectl(&["get", "role", "coder-upgrade-runner", "-o", "json"]).await).unwrap();
    let rules = role["rules"].as_array().unwrap().iter();
    let rules: Vec<&Value> = rules.filter(|rule| !rule["resources"].to_string().contains("pods/log")).collect();
    let patch = json!({"rules": rules}).to_string();
    world.kubectl(&["patch", "role", "coder-upgrade-runner", "--type=merge", "-p", &patch]).await;
    declare(&world, json!({})).await;
    let object = world.ready("coder").await;
    let checks = object.status.unwrap().checks;
    let named =
        |finding: &&Finding| finding.check == CheckName::RunnerRights && finding.message.contains("get pods/log");
    assert_eq!(checks.iter().find(named).map(|finding| finding.severity), Some(Severity::Warning), "{checks:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_claim_in_the_manifest_is_no_matter_of_chance() {
    let world = World::with_v2("claim", "2.30.0", &[]).await;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "extra"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
    });
    let more = json!({"recovery": "Reinstall", "values": {"extraTemplates": [claim]}});
    declare(&world, more.clone()).await;
    let (object, finding) = refused(&world, CheckName::ClaimInManifest).await;
    assert_eq!(
        (class(&object), finding.object.as_deref()),
        (FailureClass::CheckRefused, Some("PersistentVolumeClaim/extra"))
    );
    assert!(finding.next_step.contains("helm.sh/resource-policy: keep"), "{finding:?}");

    let mut overridden = more;
    overridden["overrides"] = json!(["ClaimInManifest"]);
    declare(&world, overridden).await;
    let object = world.ready("coder").await;
    assert!(found(&object, CheckName::ClaimInManifest, Severity::Overridden));
    assert_eq!(object.status.unwrap().history[0].overridden, [CheckName::ClaimInManifest]);
    world.finish().await;
}

#[tokio::test]
async fn a_satellite_is_not_reinstalled_and_its_address_is_worth_a_word() {
    let world = World::new("satellite").await;
    let v1 = world.repositories().v1.clone();
    world.install("coder", &v1, "1.16.1", "coder-v1-values.yaml", &["satellite.enable=true"]).await;
    world.declare("coder", to(&v1, "1.16.2", &json!({"recovery": "Reinstall", "keepAddresses": false}))).await;
    let (object, finding) = refused(&world, CheckName::SatelliteKey).await;
    assert_eq!(finding.object.as_deref(), Some("Secret/coder-replica-private-key"));
    assert!(found(&object, CheckName::AddressPinned, Severity::Warning), "{:?}", object.status.unwrap().checks);
    world.declare("coder", to(&v1, "1.16.2", &json!({}))).await;
    let object = world.ready("coder").await;
    assert!(found(&object, CheckName::BackupConfigured, Severity::Warning));
    world.finish().await;
}

#[tokio::test]
async fn a_rollout_that_cannot_end_is_not_begun() {
    let world = World::with_v2("no-end", "2.30.0", &[]).await;
    // Coder, its database and the runner: a second Coder has no room.
    world.kubectl(&["create", "quota", "three", "--hard=pods=3"]).await;
    let counted = ["get", "quota", "three", "-o", "jsonpath={.status.used}"];
    world
        .eventually("counted pods", || async { world.kubectl(&counted).await.contains(r#""pods":"2""#).then_some(()) })
        .await;
    declare(&world, json!({})).await;
    let (object, finding) = refused(&world, CheckName::Quota).await;
    assert_eq!(
        (class(&object), finding.object.as_deref(), finding.field.as_deref()),
        (FailureClass::QuotaExceeded, Some("ResourceQuota/three"), Some("spec.hard[pods]"))
    );
    world.kubectl(&["delete", "quota", "three"]).await;

    declare(&world, json!({"values": {"coder": {"replicaCount": 0}}})).await;
    let (_, finding) = refused(&world, CheckName::ReplicaCount).await;
    assert_eq!(
        (finding.object.as_deref(), finding.field.as_deref()),
        (Some("Deployment/coder"), Some("spec.replicas"))
    );

    let labels = json!({"app": "side"});
    let container = json!({"name": "side", "image": "pause:1", "readinessProbe": {"httpGet": {"port": "web"}}});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let side = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "side"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    });
    declare(&world, json!({"values": {"extraTemplates": [side]}})).await;
    let (_, finding) = refused(&world, CheckName::Probe).await;
    assert_eq!(finding.object.as_deref(), Some("Deployment/side"));

    let budget = json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "coder"}});
    declare(&world, json!({"values": {"extraTemplates": [budget]}})).await;
    let (object, finding) = refused(&world, CheckName::ApiVersions).await;
    assert_eq!(class(&object), FailureClass::CheckRefused);
    assert!(finding.message.contains("It is policy/v1 now"), "{finding:?}");
    world.finish().await;
}
