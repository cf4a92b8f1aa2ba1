//! Fields that had another name before. The API server refuses the old name and tells the new one, where it would only prune an
//! unknown field.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, ValidationRule,
};

/// A field of the spec under its old name.
struct Renamed {
    /// The object that holds it, as a dotted path below the spec; empty for the spec itself.
    parent: &'static str,
    old: &'static str,
    new: &'static str,
    /// Its old type: a value of another type is refused for that.
    schema: fn() -> JSONSchemaProps,
}

const RENAMED: [Renamed; 6] = [
    Renamed { parent: "", old: "after", new: "dependsOn", schema: || list(of_type("string")) },
    Renamed { parent: "", old: "path", new: "upgradePath", schema: || of_type("string") },
    Renamed {
        parent: "chart",
        old: "credentialsSecret",
        new: "credentialsSecretRef.name",
        schema: || of_type("string"),
    },
    Renamed { parent: "chart", old: "caSecret", new: "caSecretRef.name", schema: || of_type("string") },
    Renamed { parent: "chart.archiveCredentials", old: "secret", new: "secretRef.name", schema: || of_type("string") },
    Renamed { parent: "verify", old: "tokenSecret", new: "tokenSecretKeyRef", schema: key_reference },
];

/// Adds the old names to the schema of the spec, each with a rule that refuses it.
pub fn refuse(spec: &mut JSONSchemaProps) {
    for renamed in &RENAMED {
        let mut holder = Some(&mut *spec);
        for name in renamed.parent.split('.').filter(|name| !name.is_empty()) {
            holder = holder.and_then(|schema| schema.properties.as_mut()?.get_mut(name));
        }
        let Some(holder) = holder else { continue };
        let path = |name: &str| {
            ["spec", renamed.parent, name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
        };
        let message = format!("{} is called {} now", path(renamed.old), path(renamed.new));
        let rule = ValidationRule {
            rule: format!("!has(self.{})", renamed.old),
            field_path: Some(format!(".{}", renamed.old)),
            message: Some(message),
            ..ValidationRule::default()
        };
        holder.x_kubernetes_validations.get_or_insert_default().push(rule);
        let schema =
            JSONSchemaProps { description: Some(format!("Refused: use {}.", renamed.new)), ..(renamed.schema)() };
        holder.properties.get_or_insert_default().insert(renamed.old.into(), schema);
    }
}

fn of_type(name: &str) -> JSONSchemaProps {
    let max_length = (name == "string").then_some(2048);
    JSONSchemaProps { type_: Some(name.into()), max_length, ..JSONSchemaProps::default() }
}

fn list(items: JSONSchemaProps) -> JSONSchemaProps {
    JSONSchemaProps {
        items: Some(JSONSchemaPropsOrArray::Schema(Box::new(items))),
        max_items: Some(64),
        ..of_type("array")
    }
}

fn key_reference() -> JSONSchemaProps {
    let field = |name: &str| {
        let description = Some("Refused, with the field that holds it.".to_owned());
        (name.to_owned(), JSONSchemaProps { description, ..of_type("string") })
    };
    JSONSchemaProps { properties: Some(["name", "key"].map(field).into()), ..of_type("object") }
}
