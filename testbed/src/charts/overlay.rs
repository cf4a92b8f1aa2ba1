//! Lays one chart directory over another.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::ChartError;

/// Copies the directory `source` to `target`, on top of what is there. A file replaces the one of the same name; a
/// `values.yaml` is merged into it instead, key by key.
pub(super) fn lay(source: &Path, target: &Path) -> Result<(), ChartError> {
    fs::create_dir_all(target).map_err(ChartError::at(target))?;
    for entry in fs::read_dir(source).map_err(ChartError::at(source))? {
        let entry = entry.map_err(ChartError::at(source))?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        if from.is_dir() {
            lay(&from, &to)?;
        } else if entry.file_name() == "values.yaml" && to.exists() {
            merge_values(&from, &to)?;
        } else {
            fs::copy(&from, &to).map_err(ChartError::at(&from))?;
        }
    }
    Ok(())
}

fn merge_values(from: &Path, to: &Path) -> Result<(), ChartError> {
    let mut values = read_yaml(to)?;
    merge(&mut values, read_yaml(from)?);
    // JSON is YAML, too.
    fs::write(to, values.to_string()).map_err(ChartError::at(to))
}

fn read_yaml(path: &Path) -> Result<Value, ChartError> {
    let text = fs::read_to_string(path).map_err(ChartError::at(path))?;
    serde_saphyr::from_str(&text)
        .map_err(|error| ChartError::Yaml { path: path.to_owned(), problem: error.to_string() })
}

/// As helm merges values: mappings key by key, everything else is replaced.
fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mappings_merge_and_lists_are_replaced() {
        let mut base = json!({"a": {"b": 1, "c": [1, 2]}, "d": 4});
        merge(&mut base, json!({"a": {"c": [3]}, "e": {"f": 5}}));
        assert_eq!(base, json!({"a": {"b": 1, "c": [3]}, "d": 4, "e": {"f": 5}}));
    }

    #[test]
    fn files_are_replaced_and_added_and_values_merged() {
        let dir = tempfile::tempdir().unwrap();
        let (chart, overlay, target) = (dir.path().join("c"), dir.path().join("o"), dir.path().join("t"));
        for (file, text) in [
            (chart.join("values.yaml"), "a: 1\nb: {c: 2}\n"),
            (chart.join("templates/x.yaml"), "old"),
            (overlay.join("values.yaml"), "b: {d: 3}\n"),
            (overlay.join("templates/x.yaml"), "new"),
            (overlay.join("templates/y.yaml"), "more"),
        ] {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        lay(&chart, &target).unwrap();
        lay(&overlay, &target).unwrap();
        assert_eq!(read_yaml(&target.join("values.yaml")).unwrap(), json!({"a": 1, "b": {"c": 2, "d": 3}}));
        assert_eq!(fs::read_to_string(target.join("templates/x.yaml")).unwrap(), "new");
        assert_eq!(fs::read_to_string(target.join("templates/y.yaml")).unwrap(), "more");
    }
}
