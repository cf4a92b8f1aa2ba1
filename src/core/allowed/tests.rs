use clap::{Args, Command, FromArgMatches};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn spec(spec: Value) -> CoderUpgradeSpec {
    serde_json::from_value(spec).unwrap()
}

fn flags(arguments: &[&str]) -> Result<Allowed, clap::Error> {
    let command = AllowedFlags::augment_args(Command::new("controller").no_binary_name(true));
    Ok(AllowedFlags::from_arg_matches(&command.try_get_matches_from(arguments)?)?.allowed())
}

#[test]
fn without_flags_the_official_repositories_one_account_and_no_image_are_allowed() {
    let allowed = flags(&[]).unwrap();
    assert_eq!(allowed, Allowed::default());
    assert_eq!(allowed.repositories.patterns().collect::<Vec<_>>(), OFFICIAL);
    assert_eq!(allowed.judge(&CoderUpgradeSpec::default()), Ok(()));
}

#[rstest]
#[case(json!({"chart": {"repository": "https://helm.coder.com"}}), None)]
#[case(json!({"chart": {"repository": "https://HELM.coder.com:443/v2/"}}), None)]
#[case(json!({"chart": {"repository": "oci://ghcr.io/coder/chart"}}), None)]
#[case(json!({"chart": {"repository": "oci://ghcr.io/coder/chart/more"}}), None)]
#[case(json!({"chart": {"repository": "oci://ghcr.io/coder/charts"}}), Some(("spec.chart.repository", "--allowed-repositories")))]
#[case(json!({"chart": {"repository": "oci://ghcr.io/coder"}}), Some(("spec.chart.repository", "--allowed-repositories")))]
#[case(json!({"chart": {"repository": "http://helm.coder.com/v2"}}), Some(("spec.chart.repository", "--allowed-repositories")))]
#[case(json!({"chart": {"repository": "https://helm.coder.com:8443/v2"}}), Some(("spec.chart.repository", "--allowed-repositories")))]
#[case(json!({"chart": {"repository": "https://evil.example/v2"}}), Some(("spec.chart.repository", "--allowed-repositories")))]
#[case(json!({"chart": {"repository": "https://helm.coder.com.evil.example/v2"}}), Some(("spec.chart.repository", "--allowed-repositories")))]
#[case(json!({"chart": {"repository": "https://helm.coder.com@evil.example/v2"}}), Some(("spec.chart.repository", "user or a password")))]
#[case(json!({"chart": {"archive": {"configMapKeyRef": {"name": "a", "key": "b"}}}}), Some(("spec.chart.archive", "--allowed-repositories")))]
#[case(json!({"job": {"serviceAccountName": "admin"}}), Some(("spec.job.serviceAccountName", "--allowed-service-accounts: coder-upgrade-runner")))]
#[case(json!({"job": {"image": "evil.example/tool:1"}}), Some(("spec.job.image", "--allowed-job-images: nothing")))]
fn a_refusal_names_the_field_and_the_flag(#[case] declared: Value, #[case] refused: Option<(&str, &str)>) {
    match (Allowed::default().judge(&spec(declared)), refused) {
        (Ok(()), None) => {}
        (Err(problem), Some((field, words))) => {
            assert_eq!(problem.field.as_deref(), Some(field));
            assert!(problem.message.contains(words), "{}", problem.message);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_password_in_an_address_is_not_repeated() {
    let declared = spec(json!({"chart": {"repository": "https://me:planted@helm.coder.com/v2"}}));
    let problem = Allowed::default().judge(&declared).unwrap_err();
    assert_eq!(problem.class, FailureClass::SpecInvalid);
    assert!(!problem.message.contains("planted"), "{}", problem.message);
}

#[test]
fn credentials_go_unencrypted_only_on_purpose() {
    let repositories = Repositories::any();
    let chart = |plain: bool| {
        spec(
            json!({"chart": {"repository": "http://r.example", "credentialsSecretRef": {"name": "login"}, "plainHTTP": plain}}),
        )
    };
    let problem = repositories.judge(&chart(false), None).unwrap_err();
    assert_eq!((problem.class, problem.field.as_deref()), (FailureClass::SpecInvalid, Some("spec.chart.plainHTTP")));
    assert_eq!(repositories.judge(&chart(true), None), Ok(()));
}

#[test]
fn without_a_repository_the_default_of_the_line_counts() {
    let only_v1 = Repositories::new(vec!["https://helm.coder.com/v1".parse().unwrap()]);
    assert!(only_v1.judge(&CoderUpgradeSpec::default(), None).is_err());
    let only_v2 = Repositories::new(vec!["https://helm.coder.com/v2".parse().unwrap()]);
    assert_eq!(only_v2.judge(&CoderUpgradeSpec::default(), None), Ok(()));
    assert!(only_v2.judge(&CoderUpgradeSpec::default(), Some(ProductLine::V1)).is_err());
    assert_eq!(only_v2.judge(&CoderUpgradeSpec::default(), Some(ProductLine::V2)), Ok(()));
}

#[test]
fn what_is_not_allowed_is_not_used() {
    let job = |settings: Value| spec(json!({ "job": settings })).job;
    let allowed = Allowed::default();
    let evil = job(json!({"serviceAccountName": "admin", "image": "evil.example/tool:1"}));
    assert_eq!((allowed.service_account(&evil), allowed.image(&evil)), (RUNNER_ACCOUNT, None));

    let wide =
        flags(&["--allowed-service-accounts=team", "--allowed-job-images=r.example/op,r.example/other"]).unwrap();
    let mine = job(json!({"serviceAccountName": "team", "image": "r.example/other:2"}));
    assert_eq!((wide.service_account(&mine), wide.image(&mine)), ("team", Some("r.example/other:2")));
    assert_eq!(wide.service_account(&evil), "team");
    assert_eq!(flags(&["--allowed-service-accounts=*"]).unwrap().service_account(&evil), "admin");
}

#[test]
fn an_empty_list_allows_nothing() {
    let none = flags(&["--allowed-repositories=", "--allowed-service-accounts=", "--allowed-job-images="]).unwrap();
    let problem = none.judge(&CoderUpgradeSpec::default()).unwrap_err();
    assert!(problem.message.contains("--allowed-repositories: nothing"), "{}", problem.message);
    assert_eq!(none.service_account(&JobSettings::default()), RUNNER_ACCOUNT);
}

#[test]
fn a_flag_that_cannot_be_read_says_why() {
    let said = flags(&["--allowed-repositories=https://*.example.com"]).unwrap_err().to_string();
    assert!(said.contains("https://charts.example.com/coder"), "{said}");
}

#[test]
fn other_flags_have_another_fingerprint() {
    let print = |arguments: &[&str]| flags(arguments).unwrap().fingerprint();
    assert_eq!(print(&[]), print(&[]));
    for other in ["--allowed-repositories=*", "--allowed-service-accounts=*", "--allowed-job-images=*"] {
        assert_ne!(print(&[]), print(&[other]));
    }
}
