//! Values by their dotted paths, and where a person can change them.

use super::{Facts, Foreseen};
use crate::core::helm::values;
pub use crate::core::helm::values::at;

/// What a person does so that the release is not given the value at a path any more.
pub fn how_to_drop(facts: &Facts, foreseen: &Foreseen, path: &str) -> String {
    if facts.spec.values.as_ref().is_some_and(|inline| at(inline, path).is_some()) {
        return format!("remove {path} from spec.values");
    }
    let kept = facts.spec.keep_values && {
        let mut kept = facts.kept.clone();
        values::drop_paths(&mut kept, facts.spec.drop_values.iter().map(String::as_str));
        at(&kept, path).is_some() && at(&kept, path) == at(&foreseen.values, path)
    };
    if kept {
        format!("add {path} to spec.dropValues")
    } else {
        format!("remove {path} from the object named in spec.valuesFrom")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::plan::checks::sample;

    #[test]
    fn the_place_to_change_is_where_the_value_comes_from() {
        let pinned = sample::map(&json!({"coder": {"image": {"tag": "v1"}}}));
        let mut facts = sample::facts("2.30.0", "2.31.7");
        let foreseen = crate::core::plan::checks::Foreseen { values: pinned.clone(), ..sample::foreseen() };
        let told = |facts: &Facts| how_to_drop(facts, &foreseen, "coder.image.tag");
        assert_eq!(told(&facts), "remove coder.image.tag from the object named in spec.valuesFrom");
        facts.kept = pinned.clone();
        assert_eq!(told(&facts), "add coder.image.tag to spec.dropValues");
        facts.spec.values = Some(pinned);
        assert_eq!(told(&facts), "remove coder.image.tag from spec.values");
    }
}
