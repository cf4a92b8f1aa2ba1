//! `coder-upgrade-operator plan` says of the gates what the controller says.

use crate::common::{World, terminal::Terminal};
use coder_upgrade_operator::api::{CoderUpgrade, CoderUpgradeStatus, Phase};
use serde_json::{Value, json};

fn status(object: &CoderUpgrade) -> &CoderUpgradeStatus {
    object.status.as_ref().unwrap()
}

/// The gate that a field asks for: whether it is open, and what it says.
fn gate(preview: &Value, field: &str) -> Option<(bool, String)> {
    let gate = preview["gates"].as_array().unwrap().iter().find(|gate| gate["field"] == field)?;
    Some((gate["open"].as_bool().unwrap(), gate["message"].as_str().unwrap().to_owned()))
}

#[tokio::test]
async fn a_second_hop_and_a_second_object_are_judged_as_the_controller_judges_them() {
    let world = World::with_v1("shown", "1.15.2").await;
    let terminal = Terminal::of(&world).await;
    let plan = async |name: &str| {
        let shown = terminal.plan(&[name, "-n", &world.namespace, "-o", "json", "-q"], "").await;
        (shown.code, shown.json())
    };
    let spec = |suspend: bool| {
        let chart = json!({"repository": world.repositories().v1});
        json!({"version": "1.17.0", "chart": chart, "approval": "Manual", "suspend": suspend})
    };
    world.declare("coder", spec(false)).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    let first = status(&object).plan.clone().unwrap();
    assert_eq!(first.forecast.hops, ["1.17.0"]);
    let (code, preview) = plan("coder").await;
    assert_eq!((code, gate(&preview, "spec.approval").unwrap().0), (3, false));

    // The path is approved once. The change that has begun is finished, and then it is suspended before the second hop.
    world.kubectl(&["annotate", "cu", "coder", &format!("coderupgrade.dev/approve={}", first.id)]).await;
    world.until("coder", "in its first hop", |o| matches!(status(o).phase, Phase::Upgrading | Phase::Verifying)).await;
    world.declare("coder", spec(true)).await;
    let between = |o: &CoderUpgrade| status(o).phase == Phase::Suspended && status(o).history.len() == 1;
    let object = world.until("coder", "suspended before its second hop", between).await;
    let (code, preview) = plan("coder").await;
    assert_eq!((code, &preview["plan"]["to"], &preview["approve"]), (2, &json!("1.17.0"), &Value::Null), "{preview}");
    assert_eq!(gate(&preview, "spec.approval"), Some((true, "This plan is approved.".into())));
    assert_eq!(gate(&preview, "spec.suspend"), Some((false, status(&object).message.clone())));

    // Of two objects for one release, the one that was there first goes on.
    world.declare("second", spec(false)).await;
    let refused = |o: &CoderUpgrade| o.status.as_ref().is_some_and(|status| status.message.contains("already"));
    let second = world.until("second", "refused for the first", refused).await;
    assert_eq!(gate(&plan("coder").await.1, "spec.release"), None);
    assert_eq!(gate(&plan("second").await.1, "spec.release"), Some((false, status(&second).message.clone())));
    world.finish().await;
}
