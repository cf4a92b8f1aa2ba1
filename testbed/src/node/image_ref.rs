//! Image references and the patterns that match them.

/// An image reference taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// Registry and repository, without tag and digest.
    pub name: String,
    /// The tag, `latest` if there is none.
    pub tag: String,
}

impl ImageRef {
    /// Takes `[registry[:port]/]repository[:tag][@digest]` apart.
    #[must_use]
    pub fn parse(image: &str) -> Self {
        let image = image.split_once('@').map_or(image, |(name, _digest)| name);
        match image.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => Self { name: name.to_owned(), tag: tag.to_owned() },
            _ => Self { name: image.to_owned(), tag: "latest".to_owned() },
        }
    }
}

/// Whether `text` matches `pattern`: `*` is any text without a `/`, `**` any text, and `**/` may also be nothing.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**/") {
        return glob(rest, text) || text.match_indices('/').any(|(at, _)| glob(rest, &text[at + 1..]));
    }
    if let Some(rest) = pattern.strip_prefix("**") {
        return tails(text).any(|tail| glob(rest, tail));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        let segment = text.find('/').unwrap_or(text.len());
        return tails(text).take_while(|tail| text.len() - tail.len() <= segment).any(|tail| glob(rest, tail));
    }
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some(wanted), Some(found)) if wanted == found => {
            glob(&pattern[wanted.len_utf8()..], &text[found.len_utf8()..])
        }
        _ => false,
    }
}

fn tails(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).map(|at| &text[at..])
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
        ] {
            assert_eq!(ImageRef::parse(image), ImageRef { name: name.into(), tag: tag.into() }, "{image}");
        }
    }

    #[test]
    fn patterns_stay_within_segments_unless_doubled() {
        for (pattern, text, matches) in [
            ("**/coder:*", "coder:v1", true),
            ("**/coder:*", "ghcr.io/coder/coder:v1", true),
            ("**/coder:*", "ghcr.io/coder/coder-x:v1", false),
            ("**/coder:*", "ghcr.io/coder/xcoder:v1", false),
            ("ghcr.io/*/coder:v2.*", "ghcr.io/a/coder:v2.1", true),
            ("ghcr.io/*/coder:v2.*", "ghcr.io/a/b/coder:v2.1", false),
            ("ghcr.io/**", "ghcr.io/a/b:1", true),
            ("*:*-helm3", "operator:v1-helm3", true),
            ("*:*-helm3", "operator:v1", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} on {text}");
        }
    }
}
