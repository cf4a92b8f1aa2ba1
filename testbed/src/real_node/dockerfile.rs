//! The last stage of a Dockerfile: what it copies, and how a container of it starts.

use super::oci::Config;

/// A file that the image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    /// The stage that it comes from.
    pub(super) stage: String,
    pub(super) source: String,
    pub(super) target: String,
}

/// Reads the last stage.
///
/// # Errors
/// The line that is not understood: an image that only resembles the real one would show nothing.
pub(super) fn last_stage(text: &str) -> Result<(Vec<Copied>, Config), String> {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let begin = lines.iter().rposition(|line| line.starts_with("FROM ")).ok_or("it has no stage")?;
    if lines[begin] != "FROM scratch" {
        return Err(format!("`{}`: its last stage does not begin empty", lines[begin]));
    }
    let (mut copied, mut config) = (Vec::new(), Config::default());
    for line in &lines[begin + 1..] {
        let unknown = || format!("`{line}` is not understood");
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["COPY", from, source, target] => {
                let stage = from.strip_prefix("--from=").ok_or_else(unknown)?;
                copied.push(Copied { stage: stage.into(), source: source.into(), target: target.into() });
            }
            ["ENV", variable] if variable.contains('=') => config.env.push(variable.to_owned()),
            // It says what the image is, and changes nothing in a container.
            ["LABEL", ..] => {}
            ["USER", user] => user.clone_into(&mut config.user),
            ["ENTRYPOINT", ..] => {
                let list = line.trim_start_matches("ENTRYPOINT");
                config.entrypoint = serde_json::from_str(list).map_err(|_| unknown())?;
            }
            _ => return Err(unknown()),
        }
    }
    Ok((copied, config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_stage_counts() {
        let text = "FROM a AS b\nRUN make\n\nFROM scratch\n# Why.\nCOPY --from=b /x /usr/x\nENV PATH=/usr\nUSER 1:1\n\
                    ENTRYPOINT [\"/usr/x\", \"y\"]\n";
        let (copied, config) = last_stage(text).unwrap();
        assert_eq!(copied, [Copied { stage: "b".into(), source: "/x".into(), target: "/usr/x".into() }]);
        let expected =
            Config { entrypoint: vec!["/usr/x".into(), "y".into()], env: vec!["PATH=/usr".into()], user: "1:1".into() };
        assert_eq!(config, expected);
    }

    #[test]
    fn an_instruction_that_is_not_understood_is_an_error() {
        let error = last_stage("FROM scratch\nVOLUME /data\n").unwrap_err();
        assert!(error.contains("VOLUME /data"), "{error}");
        assert!(last_stage("FROM alpine\n").is_err());
    }
}
