//! A variable that is named twice: Kubernetes takes it, and the next patch of it fails.

use std::collections::BTreeSet;

use super::pods::{Template, list, templates};
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding};

/// [`CheckName::DuplicateEnvironment`]
pub fn check(_: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let mut found = Vec::new();
    for template in templates(&foreseen.new) {
        for (section, container) in template.all() {
            let mut seen = BTreeSet::new();
            let names = list(&container["env"]).iter().filter_map(|entry| entry["name"].as_str());
            let twice: BTreeSet<&str> = names.filter(|name| !seen.insert(*name)).collect();
            for name in twice {
                let message = format!(
                    "{} names the variable {name} twice: helm may be refused when it patches the list, now or at the next upgrade",
                    template.object
                );
                let next = "Remove one of the two from the values; the chart may set the variable itself.";
                let finding = Finding::warning(CheckName::DuplicateEnvironment, message, next);
                let field = Template::field(section, container, &format!("env[{name}]"));
                found.push(finding.about(&template.object).at(field));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::plan::checks::sample;

    #[test]
    fn each_double_name_is_told_once() {
        let env = json!([{"name": "A"}, {"name": "B"}, {"name": "A"}, {"name": "A"}, {"value": "x"}]);
        let new = sample::documents(&[sample::deployment("coder", &json!({"name": "coder", "env": env}))]);
        let found = check(&sample::facts("2.30.0", "2.31.7"), &Foreseen { new, ..sample::foreseen() });
        let fields: Vec<_> = found.iter().map(|finding| finding.field.as_deref().unwrap()).collect();
        assert_eq!(fields, ["spec.template.spec.containers[coder].env[A]"]);
    }
}
