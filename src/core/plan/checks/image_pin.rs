//! Values that pin an image to a version: the chart would be upgraded, and Coder would not.

use super::paths::{at, how_to_drop};
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, ProductLine};
use crate::core::helm::version;
use crate::core::helm::version::comparable;
use crate::core::helm::version::is_build_of;
use crate::core::rollout::image::{Image, tagged};

/// What a value names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// The tag of an image of Coder.
    Tag,
    /// A whole image of Coder.
    Image,
    /// An image of a helper, whose tags are not versions of Coder everywhere.
    Helper,
}

/// The values of the charts that pin images.
const PINS: &[(ProductLine, &str, Names)] = &[
    (ProductLine::V2, "coder.image.tag", Names::Tag),
    (ProductLine::V1, "coderd.image", Names::Image),
    (ProductLine::V1, "cemanager.image", Names::Image),
    (ProductLine::V1, "dashboard.image", Names::Image),
    (ProductLine::V1, "envproxy.image", Names::Image),
    (ProductLine::V1, "envbox.image", Names::Helper),
    (ProductLine::V1, "timescale.image", Names::Helper),
    (ProductLine::V1, "postgres.default.image", Names::Helper),
];

/// [`CheckName::ImagePin`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let line = facts.line();
    let pins = PINS.iter().filter(|(of, ..)| *of == line);
    pins.filter_map(|(_, path, names)| pin(facts, foreseen, path, *names)).collect()
}

fn pin(facts: &Facts, foreseen: &Foreseen, path: &str, names: Names) -> Option<Finding> {
    let path = facts.value_path(path);
    let path = path.as_str();
    let value = at(&foreseen.values, path)?.as_str().filter(|value| !value.is_empty())?;
    let wanted = facts.chart.app_version();
    let pinned = if names == Names::Tag { tagged(value) } else { Image::of(value).version() };
    let release = version::parse(comparable(wanted));
    let drop = how_to_drop(facts, foreseen, path);
    let finding = match pinned {
        Some(pinned) if Some(&pinned) == release.as_ref() => return None,
        Some(pinned) if release.as_ref().is_some_and(|release| is_build_of(&pinned, release)) => Finding::warning(
            CheckName::ImagePin,
            format!("the value {path} pins {pinned}, a build of {wanted}, whatever the version of the chart"),
            format!("Make sure that it is made of {wanted}, or {drop}."),
        ),
        Some(pinned) if names != Names::Helper => Finding::refusal(
            CheckName::ImagePin,
            format!(
                "the value {path} pins {pinned}: the chart would be {}, and Coder would not be {wanted}",
                facts.chart.coder_version()
            ),
            format!("To let the chart choose the image, {drop}."),
        ),
        // A digest or a word of one's own says nothing about the version, and a helper need not have Coder's.
        _ => Finding::warning(
            CheckName::ImagePin,
            format!("the value {path} pins an image, whatever the version of the chart"),
            format!("Make sure that it is the image for {wanted}, or {drop}."),
        ),
    };
    Some(finding.at(path))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Severity;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::nothing("2.31.7", json!({}), None)]
    #[case::empty("2.31.7", json!({"coder": {"image": {"tag": ""}}}), None)]
    #[case::no_text("2.31.7", json!({"coder": {"image": {"tag": 2}}}), None)]
    #[case::old("2.31.7", json!({"coder": {"image": {"tag": "v2.30.0"}}}), Some((Severity::Refusal, "coder.image.tag")))]
    #[case::right("2.31.7", json!({"coder": {"image": {"tag": "v2.31.7"}}}), None)]
    #[case::build("2.31.7", json!({"coder": {"image": {"tag": "v2.31.7-acme1"}}}), Some((Severity::Warning, "coder.image.tag")))]
    #[case::candidate("2.31.7", json!({"coder": {"image": {"tag": "v2.31.7-rc.1"}}}), Some((Severity::Refusal, "coder.image.tag")))]
    #[case::word("2.31.7", json!({"coder": {"image": {"tag": "stable"}}}), Some((Severity::Warning, "coder.image.tag")))]
    #[case::classic("1.28.0", json!({"coderd": {"image": "r:5/coder-service:1.27.0"}}), Some((Severity::Refusal, "coderd.image")))]
    #[case::classic_before("1.17.0", json!({"cemanager": {"image": "coder-service:1.16.1"}}), Some((Severity::Refusal, "cemanager.image")))]
    #[case::helper("1.17.0", json!({"timescale": {"image": "timescale:1.16.1"}}), Some((Severity::Warning, "timescale.image")))]
    #[case::digest("1.17.0", json!({"cemanager": {"image": "x@sha256:12"}}), Some((Severity::Warning, "cemanager.image")))]
    fn pins_are_found(#[case] to: &str, #[case] values: Value, #[case] expected: Option<(Severity, &str)>) {
        let facts = sample::facts(if to.starts_with('1') { "1.16.1" } else { "2.30.0" }, to);
        let foreseen = Foreseen { values: sample::map(&values), ..sample::foreseen() };
        let found = check(&facts, &foreseen);
        let found: Vec<_> = found.iter().map(|f| (f.severity, f.field.as_deref().unwrap_or_default())).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn the_next_step_is_exactly_the_entry() {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.kept = sample::map(&json!({"coder": {"image": {"tag": "v2.30.0"}}}));
        let foreseen = Foreseen { values: facts.kept.clone(), ..sample::foreseen() };
        let found = check(&facts, &foreseen);
        assert_eq!(found[0].next_step, "To let the chart choose the image, add coder.image.tag to spec.dropValues.");
    }
}
