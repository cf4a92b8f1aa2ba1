//! Images of the runner beside that of the controller.

use std::fmt;
use std::str::FromStr;

/// One entry of `--allowed-job-images`, compared as it is written: nothing is completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImagePattern {
    /// `*`: every image.
    Any,
    /// An image, or the beginning of its name in whole parts, with any tag or digest.
    Named(String),
    /// An empty entry, so that an empty list can be given.
    Nothing,
}

impl ImagePattern {
    /// Whether it allows the image.
    pub fn allows(&self, image: &str) -> bool {
        let name = match self {
            Self::Any => return true,
            Self::Nothing => return false,
            Self::Named(name) => name,
        };
        let Some(rest) = image.strip_prefix(name.as_str()) else { return false };
        match rest.chars().next() {
            None => true,
            // A part of the path follows, unless the entry ends with a tag or a digest.
            Some('/') => {
                !name.contains('@')
                    && !name.rsplit('/').next().is_some_and(|last| last.contains(':') && name.contains('/'))
            }
            // A tag or a digest follows: not the port of a registry.
            Some(':' | '@') => !rest.contains('/'),
            Some(_) => false,
        }
    }
}

impl FromStr for ImagePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Ok(Self::Nothing),
            "*" => Ok(Self::Any),
            name if name.contains('*') => {
                Err("* stands alone, for every image; otherwise give the beginning of a name in whole parts".into())
            }
            name => Ok(Self::Named(name.trim_end_matches('/').to_owned())),
        }
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Named(name) => name,
            Self::Nothing => "",
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("*", "anything:1", true)]
    #[case("", "", false)]
    #[case("r.example/op", "r.example/op:v1", true)]
    #[case("r.example/op", "r.example/op@sha256:ab", true)]
    #[case("r.example/op", "r.example/op:v1@sha256:ab", true)]
    #[case("r.example/op", "r.example/op/fork:v1", true)]
    #[case("r.example/op", "r.example/operator:v1", false)]
    #[case("r.example/op:v1", "r.example/op:v1", true)]
    #[case("r.example/op:v1", "r.example/op:v1@sha256:ab", true)]
    #[case("r.example/op:v1", "r.example/op:v1.1", false)]
    #[case("r.example/op:v1", "r.example/op:v1/x", false)]
    #[case("r.example/op:v1", "r.example/op", false)]
    #[case("r.example", "r.example/op", true)]
    #[case("r.example", "r.example:5000/op", false)]
    #[case("r.example:5000", "r.example:5000/op:v1", true)]
    #[case("r.example/op@sha256:ab", "r.example/op@sha256:abc", false)]
    #[case("r.example/op@sha256:ab", "r.example/op@sha256:ab", true)]
    #[case("r.example/", "r.example/op", true)]
    #[case("r.example/op", "R.EXAMPLE/op", false)]
    fn an_image_is_compared_in_whole_parts(#[case] pattern: &str, #[case] image: &str, #[case] allowed: bool) {
        assert_eq!(pattern.parse::<ImagePattern>().unwrap().allows(image), allowed);
    }

    #[test]
    fn a_star_stands_alone() {
        assert!("r.example/*".parse::<ImagePattern>().is_err());
    }
}
