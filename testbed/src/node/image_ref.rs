//! Image references.

use std::fmt::Write;

/// An image reference taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// Registry and repository, without tag and digest.
    pub name: String,
    /// The tag; if there is none that of the image with this digest, or `latest`.
    pub tag: String,
}

/// The digest that the test bed gives to the image with a tag of at most 32 bytes. It is the tag itself in another form, so that
/// a node that is told a digest alone knows which program to start, as a registry knows which image that is.
#[must_use]
pub fn digest_of(tag: &str) -> String {
    let hex = tag.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("sha256:{hex:0<64}")
}

fn tag_of(digest: &str) -> Option<String> {
    let hex = digest.strip_prefix("sha256:")?;
    let bytes = (0..hex.len() / 2).map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok());
    let tag: Option<Vec<u8>> = bytes.take_while(|byte| *byte != Some(0)).collect();
    String::from_utf8(tag?).ok().filter(|tag| !tag.is_empty() && digest_of(tag) == digest)
}

impl ImageRef {
    /// Takes `[registry[:port]/]repository[:tag][@digest]` apart.
    #[must_use]
    pub fn parse(image: &str) -> Self {
        let (image, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
        match image.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => Self { name: name.to_owned(), tag: tag.to_owned() },
            _ => {
                let tag = digest.and_then(tag_of).unwrap_or_else(|| "latest".to_owned());
                Self { name: image.to_owned(), tag }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart() {
        for (image, name, tag) in [
            ("coder", "coder", "latest"),
            ("host:5000/coder", "host:5000/coder", "latest"),
            ("host:5000/a/coder:v1", "host:5000/a/coder", "v1"),
            ("coder:v1@sha256:00", "coder", "v1"),
            ("coder@sha256:00", "coder", "latest"),
            (&format!("host:5000/coder@{}", digest_of("v2.31.7")), "host:5000/coder", "v2.31.7"),
            (&format!("coder:v1@{}", digest_of("v2.31.7")), "coder", "v1"),
        ] {
            assert_eq!(ImageRef::parse(image), ImageRef { name: name.into(), tag: tag.into() }, "{image}");
        }
    }
}
