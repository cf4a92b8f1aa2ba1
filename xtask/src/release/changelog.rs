//! The section of a version in CHANGELOG.md, which has the form of Keep a Changelog.

use jiff::civil::Date;

use crate::Result;

/// The section of a version: its heading and all below it.
pub fn section(changelog: &str, version: &str) -> Result<String> {
    let beginning = format!("## [{version}]");
    let heading = changelog.lines().find(|line| line.starts_with(&beginning));
    let heading = heading.ok_or_else(|| {
        format!("CHANGELOG.md has no section `{beginning} - YYYY-MM-DD`; move what stands under [Unreleased] there")
    })?;
    let date = heading[beginning.len()..].trim_start_matches([' ', '-']);
    date.parse::<Date>().map_err(|_| format!("CHANGELOG.md: {heading:?} has no date in the form YYYY-MM-DD"))?;
    let lines = changelog.lines().skip_while(|line| *line != heading).skip(1);
    let body: Vec<_> = lines.take_while(|line| !line.starts_with("## ")).collect();
    let body = body.join("\n");
    if body.trim().is_empty() {
        return Err(format!("CHANGELOG.md says nothing about {version}").into());
    }
    Ok(format!("{heading}\n\n{}\n", body.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- b\n\n## [0.1.0] - 2026-11-30\n\n- a\n\n\
                             ## [0.0.2] - soon\n\n- c\n\n## [0.0.1] - 2026-11-01\n";

    #[test]
    fn a_section_ends_where_the_next_one_begins() {
        assert_eq!(section(CHANGELOG, "0.2.0").unwrap(), "## [0.2.0] - 2026-12-01\n\n### Added\n\n- b\n");
        assert_eq!(section(CHANGELOG, "0.1.0").unwrap(), "## [0.1.0] - 2026-11-30\n\n- a\n");
    }

    #[test]
    fn a_version_without_a_section_a_date_or_a_text_is_refused() {
        for (version, said) in [("0.3.0", "no section"), ("0.0.2", "no date"), ("0.0.1", "says nothing")] {
            let refused = section(CHANGELOG, version).unwrap_err().to_string();
            assert!(refused.contains(said), "{version}: {refused}");
        }
    }

    #[test]
    fn the_present_version_has_a_section() {
        let changelog = std::fs::read_to_string(crate::workspace::root().join("CHANGELOG.md")).unwrap();
        section(&changelog, env!("CARGO_PKG_VERSION")).unwrap();
    }
}
