//! Where the runner fetches charts from, and where credentials go: never to what the controller does not allow, and never to
//! where an index or a redirect leads.

use crate::common::{
    World,
    recorder::{Answer, Recorder},
    steps::{HelmMajor, Steps},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use coder_upgrade_operator::api::FailureClass;
use coder_upgrade_operator::core::report::Problem;
use coder_upgrade_operator::core::text::digest::hex;
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const VERSION: &str = "2.31.7";
const PASSWORD: &str = "planted-password";

/// The packaged chart of the test bed's repository.
async fn package(world: &World) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().to_str().unwrap();
    let repository = world.repositories().v2.clone();
    let pull = ["pull", "coder", "--repo", &repository, "--version", VERSION, "--destination", destination];
    world.helm(&pull).await;
    std::fs::read(directory.path().join(format!("coder-{VERSION}.tgz"))).unwrap()
}

fn digest(package: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(package)))
}

/// What is sent with these credentials.
fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{PASSWORD}")))
}

fn spec(repository: &str) -> Value {
    let chart = json!({"repository": repository, "credentialsSecretRef": {"name": "login"}, "plainHTTP": true});
    json!({"version": VERSION, "chart": chart})
}

/// A repository that is allowed below /team, a server that is not, and credentials for the first.
struct Scene {
    steps: Steps,
    ours: Recorder,
    theirs: Recorder,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let steps = Steps::with(name, HelmMajor::Four, |repositories| &repositories.v2, "2.30.0", &[]).await;
        steps.world.create_login("reader", PASSWORD).await;
        let machine = steps.world.machine();
        let (ours, theirs) = (Recorder::start(machine).await, Recorder::start(machine).await);
        *steps.allowed.borrow_mut() = format!("{}/team", ours.url);
        Self { steps, ours, theirs }
    }

    fn repository(&self) -> String {
        format!("{}/team", self.ours.url)
    }

    /// Plans from a repository that must be refused, and sees that nobody else was asked.
    async fn refused(&self, repository: &str) -> Problem {
        let problem = self.steps.refused(spec(repository)).await;
        assert_eq!(
            (problem.class, problem.field.as_deref()),
            (FailureClass::NotAllowed, Some("spec.chart.repository")),
            "{problem:?}"
        );
        assert_eq!(self.theirs.asked(), [], "{problem:?}");
        assert!(!self.steps.log.borrow().contains(PASSWORD));
        problem
    }

    async fn finish(self) {
        self.steps.world.finish().await;
    }
}

#[tokio::test]
async fn a_repository_that_is_not_allowed_is_not_asked() {
    let scene = Scene::new("not-allowed").await;
    for repository in [
        scene.theirs.url.clone(),
        format!("{}/team", scene.theirs.url),
        format!("{}/teams", scene.ours.url),
        format!("{}/team/../other", scene.ours.url),
        format!("{}/team/%2e%2e/other", scene.ours.url),
    ] {
        let problem = scene.steps.refused(spec(&repository)).await;
        assert_eq!(problem.field.as_deref(), Some("spec.chart.repository"), "{problem:?}");
        assert!(matches!(problem.class, FailureClass::NotAllowed | FailureClass::SpecInvalid), "{problem:?}");
        assert_eq!((scene.ours.asked(), scene.theirs.asked()), (vec![], vec![]), "{repository}");
    }
    scene.finish().await;
}

#[tokio::test]
async fn a_redirect_leads_neither_to_a_server_nor_to_a_path_that_is_not_allowed() {
    let scene = Scene::new("redirect").await;
    let index = format!("{}/index.yaml", scene.theirs.url);
    scene.ours.answer("/team/index.yaml", Answer::Redirect(index.clone()));
    let problem = scene.refused(&scene.repository()).await;
    assert!(problem.message.contains(&index) && problem.message.contains("--allowed-repositories"), "{problem:?}");
    assert_eq!(scene.ours.asked(), [("/team/index.yaml".to_owned(), Some(basic("reader")))]);

    // The package, and another path of the same server.
    scene.ours.index("/team/index.yaml", VERSION, "coder.tgz");
    scene.ours.answer("/team/coder.tgz", Answer::Redirect(format!("{}/coder.tgz", scene.theirs.url)));
    scene.refused(&scene.repository()).await;
    scene.ours.answer("/team/coder.tgz", Answer::Redirect("/other/coder.tgz".into()));
    scene.refused(&scene.repository()).await;
    assert!(scene.ours.asked().iter().all(|(path, _)| path.starts_with("/team/")));
    scene.finish().await;
}

#[tokio::test]
async fn an_index_leads_nowhere_else_either() {
    let scene = Scene::new("index").await;
    for url in [
        format!("{}/coder.tgz", scene.theirs.url),
        format!("//{}/coder.tgz", scene.theirs.url.trim_start_matches("http://")),
        "../other/coder.tgz".to_owned(),
        "/other/coder.tgz".to_owned(),
        "%2e%2e/other/coder.tgz".to_owned(),
        "oci://127.0.0.1:1/coder".to_owned(),
        "http://someone:word@127.0.0.1:1/coder.tgz".to_owned(),
    ] {
        scene.ours.index("/team/index.yaml", VERSION, &url);
        scene.refused(&scene.repository()).await;
        assert_eq!(scene.ours.asked(), [("/team/index.yaml".to_owned(), Some(basic("reader")))], "{url}");
    }
    scene.finish().await;
}

#[tokio::test]
async fn what_is_allowed_elsewhere_is_fetched_without_the_credentials() {
    let scene = Scene::new("elsewhere").await;
    let package = package(&scene.steps.world).await;
    *scene.steps.allowed.borrow_mut() = format!("{},{}/releases", scene.repository(), scene.theirs.url);
    scene.ours.index("/team/index.yaml", VERSION, &format!("{}/releases/a.tgz", scene.theirs.url));
    scene.theirs.answer("/releases/a.tgz", Answer::Redirect("/releases/b.tgz?signature=x".into()));
    scene.theirs.answer("/releases/b.tgz", Answer::Content(package.clone()));
    let planned = scene.steps.plan(spec(&scene.repository())).await;
    assert_eq!(format!("sha256:{}", planned.plan.chart_digest), digest(&package));
    let without = |path: &str| (path.to_owned(), None);
    assert_eq!(scene.theirs.asked(), [without("/releases/a.tgz"), without("/releases/b.tgz")]);
    assert_eq!(scene.ours.asked(), [("/team/index.yaml".to_owned(), Some(basic("reader")))]);
    scene.finish().await;
}

#[tokio::test]
async fn a_secret_that_is_not_for_repositories_is_not_sent() {
    let scene = Scene::new("secret").await;
    let mut declared = spec(&scene.repository());
    declared["chart"]["credentialsSecretRef"] = json!({"name": "ldap"});
    scene.steps.world.create_secret("ldap", json!({"username": "svc-ldap", "password": PASSWORD})).await;
    let problem = scene.steps.refused(declared.clone()).await;
    assert_eq!(
        (problem.class, problem.object.as_deref(), problem.field.as_deref()),
        (FailureClass::RepositoryUnauthorized, Some("Secret/ldap"), Some("spec.chart.credentialsSecretRef"))
    );
    assert!(problem.message.contains("coderupgrade.dev/credentials: repository"), "{problem:?}");
    assert_eq!(scene.ours.asked(), []);

    // Who may write the Secret says that it may be sent.
    scene.steps.world.kubectl(&["label", "secret", "ldap", "coderupgrade.dev/credentials=repository"]).await;
    scene.steps.refused(declared).await;
    assert_eq!(scene.ours.asked(), [("/team/index.yaml".to_owned(), Some(basic("svc-ldap")))]);
    scene.finish().await;
}

#[rstest]
#[case::repository(false)]
#[case::archive(true)]
#[tokio::test]
async fn a_digest_pins_the_package(#[case] archive: bool) {
    let name = if archive { "pin-archive" } else { "pin" };
    let steps = Steps::with(name, HelmMajor::Four, |repositories| &repositories.v2, "2.30.0", &[]).await;
    let package = package(&steps.world).await;
    let mut chart = json!({"repository": steps.world.repositories().v2});
    if archive {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "chart"},
            "binaryData": {"coder.tgz": STANDARD.encode(&package)},
        });
        steps.world.apply(&map).await;
        chart = json!({"archive": {"configMapKeyRef": {"name": "chart", "key": "coder.tgz"}}});
    }
    let wanted = format!("sha256:{}", "0a".repeat(32));
    chart["digest"] = json!(wanted);
    let problem = steps.refused(json!({"version": VERSION, "chart": chart})).await;
    assert_eq!((problem.class, problem.field.as_deref()), (FailureClass::DigestMismatch, Some("spec.chart.digest")));
    assert!(problem.message.contains(&wanted) && problem.message.contains(&digest(&package)), "{problem:?}");

    chart["digest"] = json!(digest(&package));
    let planned = steps.plan(json!({"version": VERSION, "chart": chart})).await;
    assert_eq!(format!("sha256:{}", planned.plan.chart_digest), digest(&package));
    steps.world.finish().await;
}

#[tokio::test]
async fn of_a_secret_that_is_no_chart_not_even_the_digest_is_told() {
    let steps = Steps::with("no-digest", HelmMajor::Four, |repositories| &repositories.v2, "2.30.0", &[]).await;
    steps.world.create_secret("other", json!({"password": PASSWORD})).await;
    let archive = json!({"secretKeyRef": {"name": "other", "key": "password"}});
    let chart = json!({"archive": archive, "digest": format!("sha256:{}", "0a".repeat(32))});
    let problem = steps.refused(json!({"version": VERSION, "chart": chart})).await;
    assert_eq!(problem.class, FailureClass::ChartInvalid, "{problem:?}");
    let log = steps.log.borrow().clone();
    for hint in [PASSWORD, &digest(PASSWORD.as_bytes())[7..]] {
        assert!(!problem.message.contains(hint) && !log.contains(hint), "{problem:?}");
    }
    steps.world.finish().await;
}
