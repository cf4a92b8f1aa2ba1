//! Helm values as data: what is removed from the kept ones.

use serde_json::{Map, Value};

use crate::api::{CoderUpgradeSpec, FailureClass, unread};
use crate::core::report::Problem;
use crate::core::text::bounded;

/// Refuses values in the spec that are more than can be read with it.
pub fn within_limits(spec: &CoderUpgradeSpec) -> Result<(), Box<Problem>> {
    let Some(why) = spec.values.as_ref().and_then(unread) else { return Ok(()) };
    let message = format!("spec.values {why}: put the values into a Secret or a ConfigMap that spec.valuesFrom names");
    Err(Problem::new(FailureClass::SpecInvalid, message).field("spec.values").boxed())
}

/// Removes dotted paths from values. A backslash keeps a dot in a key (`annotations.example\.com/key`), as in helm's own
/// `--set`. Paths that do not exist are no error: the next attempt, after they were removed, gives the same list.
pub fn drop_paths<'a>(values: &mut Map<String, Value>, paths: impl IntoIterator<Item = &'a str>) {
    for path in paths {
        remove(values, &split(path));
    }
}

/// Values with null at each of these paths: helm takes the default away for that.
pub fn nulls<'a>(paths: impl IntoIterator<Item = &'a str>) -> Map<String, Value> {
    let mut values = Map::new();
    for path in paths {
        set_null(&mut values, &split(path));
    }
    values
}

fn set_null(values: &mut Map<String, Value>, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            values.insert(last.clone(), Value::Null);
        }
        [first, rest @ ..] => {
            let inner = values.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
            // Where null stands already, it takes away what lies below, too.
            if let Value::Object(inner) = inner {
                set_null(inner, rest);
            }
        }
    }
}

/// The paths of spec.values that were null when kubectl applied the object, as its annotation says, and that the object does
/// not have: `kubectl apply` takes nulls for fields to remove. None if the values are not those of the annotation any more.
pub fn lost_nulls(applied: &str, values: Option<&Map<String, Value>>) -> Vec<String> {
    let Ok(applied) = bounded::json::<Value>(applied.as_bytes()) else { return Vec::new() };
    let Value::Object(declared) = &applied["spec"]["values"] else { return Vec::new() };
    let (mut lost, mut without) = (Vec::new(), declared.clone());
    take_nulls(&mut without, "", &mut lost);
    let stored = values.cloned().unwrap_or_default();
    // Kept by apply --server-side.
    if stored == *declared || stored != without { Vec::new() } else { lost }
}

/// Removes the nulls of maps in maps, and tells their paths.
fn take_nulls(values: &mut Map<String, Value>, before: &str, paths: &mut Vec<String>) {
    values.retain(|key, value| {
        let key = key.replace('\\', r"\\").replace('.', r"\.");
        let path = if before.is_empty() { key } else { format!("{before}.{key}") };
        match value {
            Value::Null => {
                paths.push(path);
                false
            }
            Value::Object(inner) => {
                take_nulls(inner, &path, paths);
                true
            }
            _ => true,
        }
    });
}

fn remove(values: &mut Map<String, Value>, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            values.remove(last);
        }
        [first, rest @ ..] => {
            if let Some(Value::Object(inner)) = values.get_mut(first) {
                remove(inner, rest);
            }
        }
    }
}

/// The value at a dotted path.
pub fn at<'a>(values: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut keys = path.split('.');
    let first = values.get(keys.next()?)?;
    keys.try_fold(first, |value, key| value.get(key))
}

/// The kept values that a text names by their paths, as far as nothing else in the spec gives them.
pub fn named_in(text: &str, kept: &Map<String, Value>, inline: &Map<String, Value>) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || "._-".contains(c)));
    let paths =
        words.map(|word| word.trim_matches('.').trim_start_matches("Values.")).filter(|word| word.contains('.'));
    let kept = paths.filter(|path| at(kept, path).is_some_and(|value| !value.is_null()) && at(inline, path).is_none());
    let mut found: Vec<String> = kept.map(ToOwned::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

/// Splits at dots that no backslash precedes.
fn split(path: &str) -> Vec<String> {
    let mut keys = vec![String::new()];
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        let last = keys.len() - 1;
        match c {
            '.' => keys.push(String::new()),
            '\\' => keys[last].push(chars.next().unwrap_or('\\')),
            c => keys[last].push(c),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn dropped_paths_go_and_the_rest_stays() {
        let Value::Object(mut values) = json!({
            "coder": {"image": {"tag": "v2.30.0", "repo": "r"}, "env": []},
            "services": {"annotations": {"example.com/a": "1", "b": "2"}},
        }) else {
            unreachable!()
        };
        drop_paths(
            &mut values,
            ["coder.image.tag", r"services.annotations.example\.com/a", "no.such.path", "coder.env.x"],
        );
        assert_eq!(
            Value::Object(values),
            json!({"coder": {"image": {"repo": "r"}, "env": []}, "services": {"annotations": {"b": "2"}}})
        );
    }

    #[test]
    fn nulls_stand_at_their_paths() {
        let found = nulls(["coder.replicaCount", r"a.b\.c", "coder.image", "coder.image.tag", "a"]);
        assert_eq!(Value::Object(found), json!({"coder": {"replicaCount": null, "image": null}, "a": null}));
    }

    #[test]
    fn nulls_that_kubectl_removed_are_known_by_its_annotation() {
        let applied =
            json!({"spec": {"values": {"a": {"b.c": null, "d": [null, 1], "e": {"f": null}}, "g": null}}}).to_string();
        let lost = |stored: Value| lost_nulls(&applied, stored.as_object());
        assert_eq!(lost(json!({"a": {"d": [null, 1], "e": {}}})), [r"a.b\.c", "a.e.f", "g"]);
        let kept = json!({"a": {"b.c": null, "d": [null, 1], "e": {"f": null}}, "g": null});
        assert!(lost(kept).is_empty(), "kept by --server-side");
        assert!(lost(json!({"a": {"d": [null, 1], "e": {}}, "h": 1})).is_empty(), "of another time");
        assert!(lost(Value::Null).is_empty() && lost_nulls("{}", None).is_empty() && lost_nulls("[", None).is_empty());
    }

    #[test]
    fn kept_values_that_a_text_names_are_found() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        let kept = map(json!({"daemon": {"psk": "old", "key": "x", "none": null}, "other": 1}));
        let inline = map(json!({"daemon": {"key": "new"}}));
        let text = "at (a.yaml:1:2): Either specify .Values.daemon.key or daemon.psk, but not both daemon.psk. And daemon.none, other.";
        assert_eq!(named_in(text, &kept, &inline), ["daemon.psk"]);
    }

    /// Nested maps with keys that hold dots and backslashes.
    fn nested() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<i16>().prop_map(Value::from), "[a-z]{0,4}".prop_map(Value::from)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop::collection::btree_map(r"[a-c.\\]{1,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        })
    }

    /// All paths of a map, as they are written in a spec.
    fn paths(value: &Value, before: &str) -> Vec<String> {
        let Value::Object(map) = value else { return Vec::new() };
        let escaped = |key: &str| key.replace('\\', r"\\").replace('.', r"\.");
        let path = |key: &String| if before.is_empty() { escaped(key) } else { format!("{before}.{}", escaped(key)) };
        map.iter().flat_map(|(key, value)| [vec![path(key)], paths(value, &path(key))].concat()).collect()
    }

    proptest! {
        #[test]
        fn a_dropped_path_takes_what_is_below_it_and_nothing_else(
            values in nested(), chosen in any::<prop::sample::Index>(),
        ) {
            let all = paths(&values, "");
            prop_assume!(!all.is_empty());
            let dropped = chosen.get(&all);
            let Value::Object(mut map) = values else { return Ok(()) };
            drop_paths(&mut map, [dropped.as_str()]);
            let below = format!("{dropped}.");
            let expected: Vec<&String> = all.iter().filter(|path| *path != dropped && !path.starts_with(&below)).collect();
            let left = paths(&Value::Object(map.clone()), "");
            prop_assert_eq!(left.iter().collect::<Vec<_>>(), expected);
            let again = map.clone();
            drop_paths(&mut map, [dropped.as_str()]);
            prop_assert_eq!(map, again);
        }
    }
}
