//! References to images, taken apart.

use semver::Version;

use crate::core::helm::version;
use crate::core::helm::version::comparable;

/// A reference to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Registry and path.
    pub repository: &'a str,
    /// Tag, if it names one.
    pub tag: Option<&'a str>,
    /// Digest, if it names one.
    pub digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    /// Takes a reference apart. A colon before the last slash belongs to a registry's port.
    pub fn of(reference: &'a str) -> Self {
        let (named, digest) = reference.split_once('@').map_or((reference, None), |(named, id)| (named, Some(id)));
        let path = named.rfind('/').map_or(0, |slash| slash + 1);
        match named[path..].split_once(':') {
            Some((name, tag)) => Self { repository: &named[..path + name.len()], tag: Some(tag), digest },
            None => Self { repository: named, tag: None, digest },
        }
    }

    /// The tag that it asks for; none if a digest alone decides.
    fn wanted(&self) -> Option<&'a str> {
        self.tag.or_else(|| self.digest.is_none().then_some("latest"))
    }

    fn name(&self) -> &'a str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// The version that the tag names, if it names one.
    pub fn version(&self) -> Option<Version> {
        self.tag.and_then(tagged)
    }
}

/// Whether two references may name the same image: admission webhooks take another registry for it, or add the digest to
/// the tag. Digests decide where both name one, tags otherwise.
pub fn similar(one: &str, other: &str) -> bool {
    let (a, b) = (Image::of(one), Image::of(other));
    let same = match (a.digest, b.digest) {
        (Some(a), Some(b)) => a == b,
        _ => a.wanted() == b.wanted(),
    };
    one == other || (a.name() == b.name() && same)
}

/// Whether one of two references of the same name has a digest and no tag, so that nothing tells whether they name the same.
pub fn incomparable(one: &str, other: &str) -> bool {
    let (a, b) = (Image::of(one), Image::of(other));
    let bare = |image: &Image<'_>| image.tag.is_none() && image.digest.is_some();
    a.name() == b.name() && (bare(&a) || bare(&b)) && (a.digest.is_none() || b.digest.is_none())
}

/// Whether an image is one of an earlier release than `than`, by their tags. A build that somebody made of the same release is none.
pub fn is_older(image: &str, than: &str) -> bool {
    let (image, than) = (Image::of(image), Image::of(than));
    let release = |image: &Image<'_>| image.version().map(|version| (version.major, version.minor, version.patch));
    let older = release(&image).zip(release(&than)).is_some_and(|(found, than)| found < than);
    image.name() == than.name() && older
}

/// Whether a container with this image may be the one that the template describes.
pub fn may_be(wanted: &str, image: &str) -> bool {
    similar(wanted, image) || incomparable(wanted, image)
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

    #[rstest]
    #[case::mirror("ghcr.io/coder/coder:v2.31.7", "mirror.local:5000/ghcr.io/coder/coder:v2.31.7", true)]
    #[case::digest_added("ghcr.io/coder/coder:v2.31.7", "ghcr.io/coder/coder:v2.31.7@sha256:ab", true)]
    #[case::both_digests("coder:v2.31.7@sha256:ab", "mirror/coder:v2.31.7@sha256:cd", false)]
    #[case::same_digest("coder@sha256:ab", "mirror/coder:v2.31.7@sha256:ab", true)]
    #[case::other_tag("coder:v2.30.0", "mirror/coder:v2.31.7", false)]
    #[case::other_name("coder:v2.31.7", "proxy:v2.31.7", false)]
    #[case::digest_for_a_tag("coder:v2.31.7", "coder@sha256:ab", false)]
    #[case::no_tag("coder", "mirror/coder:latest", true)]
    #[case::the_same("", "", true)]
    fn rewritten_images_are_known_again(#[case] one: &str, #[case] other: &str, #[case] expected: bool) {
        assert_eq!((similar(one, other), similar(other, one)), (expected, expected));
    }

    #[test]
    fn a_digest_alone_says_nothing_about_a_tag() {
        assert!(incomparable("coder:v2.31.7", "mirror/coder@sha256:ab"));
        for (one, other) in [("coder:1", "coder:2"), ("coder@sha256:a", "coder@sha256:b"), ("coder:1", "x@sha256:a")] {
            assert!(!incomparable(one, other), "{one} {other}");
        }
    }
}
