//! The reference of the API, generated from the types, so that it cannot lag behind them.

use std::fmt::{Display, Write};

use coder_upgrade_operator::api::{BlockedReason, ConditionType, FailureClass, Phase, Reason, StepState, crd};
use serde_json::Value;
use strum::{EnumMessage, IntoEnumIterator};

use crate::markdown::{anchor, meaning};

/// Where the reference is kept, from the root of the repository.
pub const PATH: &str = "docs/reference.md";

/// The whole reference as Markdown.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Reference of `CoderUpgrade`\n\nGenerated from the types by `cargo xtask generate`; `cargo xtask test generated` tells when it is stale.\n\
         One `CoderUpgrade` stands for one Helm release in its namespace.\n",
    );
    let schema = crd().spec.versions.into_iter().find_map(|version| version.schema?.open_api_v3_schema);
    let schema = serde_json::to_value(schema).unwrap_or_default();
    for (part, title) in [("spec", "Spec: what is declared"), ("status", "Status: what the operator answers")] {
        let _ = write!(text, "\n## {title}\n\n| field | type | default | meaning |\n| --- | --- | --- | --- |\n");
        fields(&mut text, part, &schema["properties"][part]);
    }
    annotations(&mut text);
    words::<Phase>(&mut text, "Phases", "`status.phase`: where the upgrade stands, in a word.");
    words::<StepState>(&mut text, "States of steps", "`status.steps[].state`.");
    words::<ConditionType>(
        &mut text,
        "Conditions",
        "`status.conditions[].type`. Ready, Reconciling and Stalled follow kstatus, so `kubectl wait --for=condition=Ready` and GitOps \
         tools understand them; the others are facts about the current attempt, Unknown until they are known.",
    );
    words::<Reason>(&mut text, "Reasons", "`status.conditions[].reason`, beside the classes of failures.");
    words::<BlockedReason>(
        &mut text,
        "Obstacles",
        "`status.blocked.reason`, also the reason of Ready and Stalled while a step cannot begin.",
    );
    failure_classes(&mut text);
    text
}

fn fields(text: &mut String, path: &str, schema: &Value) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let inner = if field["type"] == "array" { &field["items"] } else { field };
        let suffix = if field["type"] == "array" { "[]" } else { "" };
        let kind = format!("{}{suffix}", inner["type"].as_str().unwrap_or("any"));
        let default = match &field["default"] {
            Value::Null | Value::Object(_) => String::new(),
            default => format!("`{default}`"),
        };
        let meaning =
            field["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "| `{path}{suffix}` | {kind} | {default} | {} |", meaning.replace('|', "\\|"));
        // What Kubernetes defines itself is described there.
        let foreign = ["resources", "tolerations", "imagePullSecrets", "conditions"].contains(&name.as_str());
        if !foreign && !meaning.starts_with("Refused: ") {
            fields(text, &format!("{path}{suffix}"), inner);
        }
    }
}

fn annotations(text: &mut String) {
    text.push_str(
        "\n## Annotations\n\n| annotation | set by | meaning |\n| --- | --- | --- |\n\
         | `coderupgrade.dev/requested-at` | a person or a pipeline, any new value | look for the newest version again, or start over after a failure |\n\
         | `coderupgrade.dev/approve` | a person, the value in `status.approval.value` | let the step begin that waits for an approval; see [failures.md](failures.md#approving-one-step) |\n\
         | `coderupgrade.dev/report` | the runner, on its own Job | progress and outcome as JSON, without values |\n",
    );
}

fn words<E: IntoEnumIterator + EnumMessage + Display>(text: &mut String, title: &str, about: &str) {
    let _ = write!(text, "\n## {title}\n\n{about}\n\n| word | meaning |\n| --- | --- |\n");
    for word in E::iter() {
        let _ = writeln!(text, "| `{word}` | {} |", meaning(&word));
    }
}

fn failure_classes(text: &mut String) {
    text.push_str(
        "\n## Failures\n\n`status.failure.class`, also the reason of Ready and Stalled. [failures.md](failures.md) has the texts of helm that \
         lead to each, and what the operator does about it.\n\n\
         | class | meaning | tried again by itself | what to do |\n| --- | --- | --- | --- |\n",
    );
    for class in FailureClass::iter() {
        let again = if class.retryable() { "yes" } else { "no" };
        let link = format!("[{class}](failures.md#{})", anchor(class));
        let _ = writeln!(text, "| {link} | {} | {again} | {} |", meaning(&class), class.next_step());
    }
}
