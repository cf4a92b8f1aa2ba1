//! Values that pin an image to a version: the chart would be upgraded, and Coder would not.

use std::collections::BTreeSet;

use semver::Version;

use super::paths::{at, how_to_drop};
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, ProductLine};
use crate::core::helm::version;
use crate::core::helm::version::comparable;
use crate::core::helm::version::is_build_of;
use crate::core::rollout::image::{Image, tagged};
use crate::core::rollout::started::images;

/// What a value names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ImageValue {
    /// The tag of an image of Coder.
    Tag,
    /// A whole image of Coder.
    Image,
    /// An image of a helper, whose tags are not versions of Coder everywhere.
    Helper,
}

/// The values of the charts that pin images.
const PINS: &[(ProductLine, &str, ImageValue)] = &[
    (ProductLine::V2, "coder.image.tag", ImageValue::Tag),
    (ProductLine::V1, "coderd.image", ImageValue::Image),
    (ProductLine::V1, "cemanager.image", ImageValue::Image),
    (ProductLine::V1, "dashboard.image", ImageValue::Image),
    (ProductLine::V1, "envproxy.image", ImageValue::Image),
    (ProductLine::V1, "envbox.image", ImageValue::Helper),
    (ProductLine::V1, "timescale.image", ImageValue::Helper),
    (ProductLine::V1, "postgres.default.image", ImageValue::Helper),
];

/// [`CheckName::ImagePin`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let line = facts.line();
    let pins = PINS.iter().filter(|(of, ..)| *of == line);
    pins.filter_map(|(_, path, names)| pin(facts, foreseen, path, *names)).collect()
}

fn pin(facts: &Facts, foreseen: &Foreseen, path: &str, names: ImageValue) -> Option<Finding> {
    let path = facts.value_path(path);
    let path = path.as_str();
    let value = at(&foreseen.values, path)?.as_str().filter(|value| !value.is_empty())?;
    let wanted = facts.chart.app_version();
    let pinned = if names == ImageValue::Tag { tagged(value) } else { Image::of(value).version() };
    let release = version::parse(comparable(wanted));
    let drop = how_to_drop(facts, foreseen, path);
    let running = stays(facts, foreseen, value, release.as_ref()).filter(|_| names != ImageValue::Helper);
    if let Some(running) = running {
        let message = format!(
            "the value {path} pins the digest of the image that runs now, which answers {running}: the chart would be {}, and \
             Coder would not be {wanted}",
            facts.chart.coder_version()
        );
        let next = format!("Give the digest of the image for {wanted}; or, to let the chart choose the image, {drop}.");
        return Some(Finding::refusal(CheckName::ImagePin, message, next).at(path));
    }
    let finding = match pinned {
        Some(pinned) if Some(&pinned) == release.as_ref() => return None,
        Some(pinned) if release.as_ref().is_some_and(|release| is_build_of(&pinned, release)) => Finding::warning(
            CheckName::ImagePin,
            format!("the value {path} pins {pinned}, a build of {wanted}, whatever the version of the chart"),
            format!("Make sure that it is made of {wanted}, or {drop}."),
        ),
        Some(pinned) if names != ImageValue::Helper => Finding::refusal(
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

/// The version that Coder answers and would still answer, because the value names a digest that the release has already. It
/// decides whatever the tag beside it says.
fn stays<'a>(facts: &'a Facts, foreseen: &Foreseen, value: &str, release: Option<&Version>) -> Option<&'a str> {
    let digests = |documents| {
        let images = images(documents).into_iter();
        images.filter_map(|image| Image::of(&image).digest.map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    let named =
        |digest: &&String| value.ends_with(*digest) || digest.split_once(':').is_some_and(|(_, hex)| hex == value);
    digests(&facts.old).intersection(&digests(&foreseen.new)).find(named)?;
    let right = |found: Version| release.is_some_and(|release| found == *release || is_build_of(&found, release));
    let mut answered = facts.answers.iter().map(|answer| answer.version.as_str());
    answered.find(|answered| version::parse(answered).is_some_and(|found| !right(found)))
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

    #[rstest]
    #[case::the_same("aa", "2.30.0", Severity::Refusal)]
    #[case::another("bb", "2.30.0", Severity::Warning)]
    #[case::the_version_that_is_wanted("aa", "2.31.7", Severity::Warning)]
    fn a_digest_that_stays_pins_the_version_that_runs(
        #[case] digit: &str,
        #[case] running: &str,
        #[case] severity: Severity,
    ) {
        let hex = |digit: &str| digit.repeat(32);
        let pods = |digit: &str| {
            let image = format!("ghcr.io/coder/coder@sha256:{}", hex(digit));
            let spec = json!({"template": {"spec": {"containers": [{"name": "coder", "image": image}]}}});
            sample::documents(&[json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "coder"}, "spec": spec,
            })])
        };
        let mut facts = sample::running("2.30.0", "2.31.7", Some(running), None);
        facts.old = pods("aa");
        for value in [hex(digit), format!("v2.31.7@sha256:{}", hex(digit))] {
            let values = sample::map(&json!({"coder": {"image": {"tag": value}}}));
            let found = check(&facts, &Foreseen { values, new: pods(digit), ..sample::foreseen() });
            assert_eq!(found.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [severity], "{value}");
        }
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
