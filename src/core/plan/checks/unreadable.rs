//! Objects of the manifests that cannot be read: no other check looks at them.

use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding};
use crate::core::helm::manifest::Unread;

/// [`CheckName::Manifest`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let old = facts.old.unread().map(|unread| refusal("installed", unread));
    let new = foreseen.new.unread().map(|unread| refusal("new", unread));
    old.chain(new).collect()
}

fn refusal(which: &str, unread: &Unread) -> Finding {
    let message = format!("{unread}; nothing is known of that object of the {which} manifest");
    let next = "Correct the template or the value that leads to that line. If the object holds no data, mounts no claim and runs no \
                pod of Coder, add Manifest to spec.overrides: it is then left to helm alone.";
    let finding = Finding::refusal(CheckName::Manifest, message, next);
    Finding { object: unread.object.clone(), field: unread.template.clone(), ..finding }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Severity;
    use crate::core::helm::documents::Documents;
    use crate::core::plan::checks::sample;

    #[test]
    fn an_object_that_cannot_be_read_is_named_with_its_template_and_line() {
        let text = "---\n# Source: coder/templates/x.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  labels:\n    a: b\n  name: x\ndata: [\n";
        let mut facts = sample::facts("2.30.0", "2.31.7");
        assert_eq!(check(&facts, &sample::foreseen()), []);
        facts.old = Documents::parse(text, "ns").unwrap();
        let found = check(&facts, &sample::foreseen());
        assert_eq!(
            (found.len(), found[0].severity, found[0].object.as_deref()),
            (1, Severity::Refusal, Some("ConfigMap/x"))
        );
        let words = "ConfigMap/x (from coder/templates/x.yaml) is no valid YAML: line 9: did not find expected node content; nothing is";
        assert!(found[0].message.starts_with(words), "{}", found[0].message);
    }
}
