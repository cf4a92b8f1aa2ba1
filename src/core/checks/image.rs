//! References to images, taken apart.

use semver::Version;

use crate::core::verify::comparable;
use crate::core::version;

/// A reference to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Registry and path.
    pub repository: &'a str,
    /// Tag, if it names one.
    pub tag: Option<&'a str>,
}

impl<'a> Image<'a> {
    /// Takes a reference apart. A colon before the last slash belongs to a registry's port.
    pub fn of(reference: &'a str) -> Self {
        let named = reference.split('@').next().unwrap_or_default();
        let path = named.rfind('/').map_or(0, |slash| slash + 1);
        match named[path..].split_once(':') {
            Some((name, tag)) => Self { repository: &named[..path + name.len()], tag: Some(tag) },
            None => Self { repository: named, tag: None },
        }
    }

    /// The version that the tag names, if it names one.
    pub fn version(&self) -> Option<Version> {
        self.tag.and_then(tagged)
    }
}

/// The version that a tag names: `v2.31.7`, or with what a mirror appends as build metadata.
pub fn tagged(tag: &str) -> Option<Version> {
    version::parse(comparable(tag))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("ghcr.io/coder/coder:v2.31.7", "ghcr.io/coder/coder", Some("2.31.7"))]
    #[case("registry:5000/coder", "registry:5000/coder", None)]
    #[case("registry:5000/coder:latest@sha256:abc", "registry:5000/coder", None)]
    #[case("coder:2.31.7+build", "coder", Some("2.31.7"))]
    #[case("", "", None)]
    fn references_are_taken_apart(#[case] text: &str, #[case] repository: &str, #[case] version: Option<&str>) {
        let image = Image::of(text);
        assert_eq!((image.repository, image.version().map(|v| v.to_string()).as_deref()), (repository, version));
    }
}
