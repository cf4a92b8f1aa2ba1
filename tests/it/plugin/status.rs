//! `status` shows where an upgrade stands, and follows it.

use std::time::Duration;

use crate::common::{World, terminal::Terminal};
use coder_upgrade_operator::api::{CoderUpgrade, Phase};
use kube::ResourceExt;
use serde_json::{Value, json};

#[tokio::test]
async fn an_upgrade_is_followed_to_its_verification() {
    let world = World::with_v2("plugin", "2.30.0", &["coder.replicaCount=2"]).await;
    let terminal = Terminal::of(&world).await;
    let run = async |words: &[&str]| terminal.run(&[words, &["-n", &world.namespace]].concat(), "").await;
    world.upgrade_to("2.30.0").await;
    world.ready("coder").await;
    let before = run(&["status", "coder"]).await;
    assert_eq!((before.code, before.err.as_str()), (0, ""));
    for words in
        ["standing   Verified", "installed  2.30.0 (revision 1, deployed)", "2.30.0  is ready", "\nAddresses\n"]
    {
        assert!(before.out.contains(words), "{words}");
    }

    let followed = run(&["upgrade", "coder", "--version", "2.31.7", "--wait"]).await;
    assert_eq!(followed.code, 0);
    assert!(followed.out.starts_with("CoderUpgrade coder: spec.version set to 2.31.7 (before: 2.30.0)\n"));
    let (lines, screen) = followed.out.split_once("\nCoderUpgrade coder in namespace ").unwrap();
    for words in ["Planning the upgrade to 2.31.7.", "  Upgrading  ", "  Verifying  "] {
        assert!(lines.contains(words), "a line for what is new: {words}");
    }
    let times = lines.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().to_owned());
    assert!(times.clone().count() > 3 && times.into_iter().all(|time| time.ends_with('Z')), "lines begin with a time");
    for words in ["standing   Verified", "wanted     2.31.7", "2 pods answer 2.31.7", "\nSteps of attempt 2\n  Plan "] {
        assert!(screen.contains(words), "{words}");
    }
    assert!(!followed.out.contains('\u{1b}'), "no terminal is steered where there is none");

    let shown = run(&["status", "-o", "json"]).await;
    let (code, json) = (shown.code, shown.json());
    assert_eq!((code, &json["standing"], &json["upgrade"]), (0, &json!("Verified"), &json!("coder")), "the only one");
    assert_eq!(json["rollout"][0]["updated"], 2);
    let servers: Vec<&Value> = json["pods"].as_array().unwrap().iter().filter(|pod| pod["image"] == "2.31.7").collect();
    assert_eq!(servers.len(), 2, "{json}");
    let yaml = run(&["status", "coder", "-o", "yaml"]).await;
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml.out).unwrap()["verified"], json["verified"]);
    let listed = terminal.run(&["status", "-A"], "").await;
    assert!(listed.out.contains(&world.namespace), "{}", listed.out);
    world.finish().await;
}

#[tokio::test]
async fn a_terminal_is_drawn_again_and_left_clean() {
    let world = World::with_v2("plugin-screen", "2.30.0", &[]).await;
    let terminal = Terminal::of(&world).await;
    world.upgrade_to("2.31.7").await;
    let shown = terminal.run_in_terminal(&["status", "coder", "--watch", "-n", &world.namespace]).await;
    assert_eq!(shown.code, 0);
    let frames: Vec<&str> = shown.out.split("\u{1b}[H").collect();
    assert!(frames.len() > 4, "it is drawn again");
    assert!(frames.iter().any(|frame| frame.contains("helm's timeout 30m")), "{}", shown.out);
    assert!(frames.iter().any(|frame| frame.contains("\r\nRollout") && frame.contains("-]")), "a bar");
    let last = frames.last().unwrap();
    assert!(last.contains("Verified") && !last.contains('\u{1b}'), "the whole screen stays: {last}");
    world.finish().await;
}

#[tokio::test]
async fn the_exit_code_says_failed_and_what_to_do() {
    let world = World::with_v2("plugin-failed", "2.31.7", &[]).await;
    let terminal = Terminal::of(&world).await;
    let run = async |words: &[&str]| terminal.run(&[words, &["-n", &world.namespace]].concat(), "").await;
    world.upgrade_to("2.31.6").await;
    let failed = run(&["status", "coder", "--watch"]).await;
    assert_eq!(failed.code, 2);
    let command = format!("  coder-upgrade-operator retry coder -n {}\n", world.namespace);
    for words in ["standing   Failed", "\nFailure\n", "Downgrade", "  Next: ", command.as_str()] {
        assert!(failed.out.contains(words), "{words}");
    }
    let attempt = |object: &CoderUpgrade| object.status.as_ref().unwrap().attempt;
    let first = attempt(&world.get("coder").await);
    let again = run(&["retry", "coder", "--wait"]).await;
    assert_eq!((again.code, attempt(&world.get("coder").await)), (2, first + 1), "it was tried again");
    world.finish().await;
}

/// What is watched is not asked for again and again, and whoever may not see pods still sees the upgrade.
#[tokio::test]
async fn a_watch_asks_once_and_shows_what_it_may_see() {
    let world = World::with_v2("plugin-watch", "2.30.0", &[]).await;
    let terminal = Terminal::of(&world).await;
    let user = format!("reader-{}", world.namespace);
    let rights = ["create", "role", "reader", "--verb=get,list,watch", "--resource=coderupgrades.coderupgrade.dev"];
    world.kubectl(&rights).await;
    world.kubectl(&["create", "rolebinding", "reader", "--role=reader", &format!("--user={user}")]).await;
    let chart = json!({"repository": world.repositories().v2});
    // Always closed but for a minute of the week.
    let day = if jiff::Zoned::now().weekday() == jiff::civil::Weekday::Monday { "Thu" } else { "Mon" };
    let window = json!({"start": "22:00", "end": "22:01", "timeZone": "UTC", "days": [day]});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "window": window})).await;
    world.phase("coder", Phase::AwaitingWindow).await;

    let arguments = ["status", "coder", "-n", &world.namespace, "--as", &user];
    let began = tokio::time::Instant::now();
    let shown = terminal.run(&[&arguments[..], &["--watch", "--timeout", "12s"]].concat(), "").await;
    assert_eq!(shown.code, 4, "it goes on by itself");
    assert!(began.elapsed() >= Duration::from_secs(12));
    assert!(shown.out.contains("The window is closed"), "{}", shown.out);
    let lacks = format!("user {user} lacks the right to list");
    assert!(shown.out.contains(&lacks), "{}", shown.out);
    let lines = world.cluster.audit_lines(&user).unwrap();
    let asked = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let asked =
        asked.filter(|entry| entry["impersonatedUser"]["username"] == *user && entry["stage"] != "RequestReceived");
    let count = asked.filter(|entry| entry["stage"] == "ResponseComplete").count();
    assert!((3..=12).contains(&count), "{count} requests in 12 s");
    assert_eq!(terminal.run(&arguments, "").await.code, 4);
    assert!(!world.get("coder").await.name_any().is_empty());
    world.finish().await;
}
