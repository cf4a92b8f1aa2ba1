//! `doctor` finds what keeps the operator from working.

use crate::common::{World, terminal::Terminal};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

/// The findings about a subject: grade, finding and remedy.
fn about(lines: &Value, subject: &str) -> (String, String, String) {
    let line = lines.as_array().unwrap().iter().find(|line| line["subject"] == subject).unwrap();
    let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    (text("grade"), text("finding"), text("remedy"))
}

/// A second controller, whose runners trust an authority that stands in a ConfigMap. Its namespace comes first in a list.
async fn with_certificates(world: &World, terminal: &Terminal) {
    let chart = json!({"repository": world.repositories().tls_v2});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "suspend": true})).await;
    let doctor = async || terminal.run(&["doctor", "-n", &world.namespace, "-o", "json"], "").await.json();
    let (grade, finding, _) = about(&doctor().await, "trial");
    assert!(grade == "Problem" && finding.contains("certificate"), "{finding}");

    let labels = json!({"app.kubernetes.io/name": "coder-upgrade-operator"});
    let env = json!([
        {"name": "RUNNER_IMAGE", "value": "coder-upgrade-operator:v0.1.0"},
        {"name": "RUNNER_CA_FILE", "value": "/etc/company/ca.pem"},
    ]);
    let mount = json!({"name": "company-ca", "mountPath": "/etc/company"});
    let container = json!({"name": "controller", "image": "pause:1", "env": env, "volumeMounts": [mount]});
    let volume = json!({"name": "company-ca", "configMap": {"name": "company-ca"}});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": [volume]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": template});
    let metadata = json!({"name": "other", "labels": labels});
    world.apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})).await;
    let (grade, finding, _) = about(&doctor().await, "certificates");
    assert!(grade == "Note" && finding.contains("no key ca.pem in ConfigMap/company-ca"), "{finding}");

    let data = json!({"ca.pem": world.repositories().ca_pem});
    world
        .apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "company-ca"}, "data": data}))
        .await;
    let (grade, finding, _) = about(&doctor().await, "trial");
    assert!(grade == "Ok" && finding.contains("reaches the repository"), "{finding}");
    world.kubectl(&["delete", "deployment", "other"]).await;
}

#[tokio::test]
async fn an_installation_that_works_has_no_problem_and_what_is_broken_has_a_remedy() {
    let world = World::with_v2("ailing-doctor", "2.30.0", &[]).await;
    let terminal = Terminal::of(&world).await;
    let run = async |words: &[&str]| {
        terminal.run(&[&["doctor", "-n", &world.namespace, "-o", "json"], words].concat(), "").await
    };
    let bare = run(&[]).await;
    assert_eq!(bare.code, 0);
    assert!(about(&bare.json(), "trial").1.contains("has no CoderUpgrade"));

    let chart = json!({"repository": world.repositories().v2});
    let spec = |more: Value| {
        let mut spec = json!({"version": "2.31.7", "chart": chart, "suspend": true});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    world.declare("coder", spec(json!({}))).await;
    let well = run(&[]).await;
    assert_eq!(well.code, 0);
    for (subject, words) in [
        ("API server", "v1."),
        ("definition", "that of this program"),
        ("controller", "runs 0.1.0, as this program"),
        ("runner", "has what every public chart of Coder takes"),
        ("you", "you may read and change"),
        ("admission", "a CoderUpgrade is accepted"),
        ("image", "was pulled"),
        ("trial", "reaches the repository from the cluster. Upgrade from 2.30.0 to 2.31.7."),
    ] {
        let (grade, finding, _) = about(&well.json(), subject);
        assert!(grade == "Ok" && finding.contains(words), "{subject}: {grade} {finding}");
    }

    let broken = [
        (json!({"chart": {"repository": world.repositories().down}}), "trial", "no plan can be made from the cluster"),
        (json!({"job": {"serviceAccountName": "nobody"}}), "admission", "a pod of the runner is refused"),
    ];
    for (more, subject, words) in broken {
        world.declare("coder", spec(more)).await;
        let shown = run(&["coder"]).await;
        let lines = shown.json();
        let found = lines.as_array().unwrap().iter().find(|line| line["grade"] == "Problem").unwrap();
        assert_eq!((shown.code, found["subject"].as_str()), (2, Some(subject)), "{lines}");
        assert!(found["finding"].as_str().unwrap().contains(words) && found["remedy"] != "", "{lines}");
    }

    with_certificates(&world, &terminal).await;

    world.kubectl(&["delete", "rolebinding", "coder-upgrade-runner"]).await;
    let less = run(&["--no-pod"]).await;
    let (grade, _, remedy) = about(&less.json(), "runner");
    assert!(grade != "Ok" && remedy.contains(&format!("setup -n {}", world.namespace)), "{grade} {remedy}");
    world.kubectl(&["delete", "serviceaccount", "coder-upgrade-runner"]).await;
    assert_eq!(about(&run(&["--no-pod"]).await.json(), "runner").0, "Problem");

    let other = run(&["--as", "jane", "--no-pod"]).await;
    for subject in ["definition", "controller", "runner"] {
        let (grade, finding, _) = about(&other.json(), subject);
        assert!(grade == "Note" && finding.contains("user jane lacks the right to"), "{finding}");
    }
    let selector = ListParams::default().labels("app.kubernetes.io/name=coder-upgrade-doctor");
    let left = || async { world.api::<Pod>().list(&selector).await.unwrap().items.is_empty().then_some(()) };
    world.eventually("end of the pods", left).await;
    world.finish().await;
}
