//! The table that says which local program stands for which image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder};
use serde::Deserialize;

use super::NodeError;
use super::image_ref::ImageRef;

/// Rows in order; the first whose pattern matches an image decides. A container of an image without a row is ready at once
/// and runs nothing.
#[derive(Debug, Clone, Default)]
pub struct ImageTable {
    rows: Vec<ImageRow>,
    placeholders: BTreeMap<&'static str, String>,
}

/// One row of the table, as written in an images file. In `command`, `env` and `tools` these are replaced: `{name}` and `{tag}`
/// of the image, `{version}` (the tag without a leading `v`), `{bin}` (the directory of this project's programs), `{helm}`
/// and `{helm3}` (the built programs).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRow {
    /// Glob over the image reference: `*` stays within one path segment, `**/` stands for any registry and path. With a
    /// `:` in its last segment it is matched against name and tag, else against the name alone.
    pub pattern: String,
    /// Program and first arguments; the pod's own command and arguments follow. Empty: the pod's own command is run on
    /// this machine as it is. Absent: nothing is run and the container just exists.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Variables the image would bring along; the pod's own take precedence.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Programs the image would have in its `PATH`: name there → program on this machine.
    #[serde(default)]
    pub tools: BTreeMap<String, String>,
    /// What becomes of probes that run a command, which a stand-in does not have.
    #[serde(default)]
    pub exec: ExecHandling,
}

/// What becomes of `exec` probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExecHandling {
    /// The command is run on this machine with the container's environment.
    #[default]
    Run,
    /// It counts as succeeded.
    Pass,
}

/// What is run for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Nothing: the container runs until it is stopped.
    Pause,
    /// A local process.
    Command(Vec<String>),
}

/// A container's image, resolved.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// Program with all arguments, before translation of paths.
    pub program: Program,
    /// Variables of the image.
    pub env: BTreeMap<String, String>,
    /// Programs in its `PATH`: name → program on this machine.
    pub tools: BTreeMap<String, PathBuf>,
    /// What becomes of `exec` probes.
    pub exec: ExecHandling,
}

impl ImageTable {
    /// The images of this project and of Coder. `operator` is its program, `bin_dir` holds coder-sim, `helm` is a helm 4 program;
    /// with `helm3`, operator images whose tag ends in `-helm3` get that one.
    #[must_use]
    pub fn defaults(operator: &Path, bin_dir: &Path, helm: &Path, helm3: Option<&Path>) -> Self {
        let named = [("operator", operator), ("bin", bin_dir), ("helm", helm)];
        let mut placeholders: BTreeMap<_, _> = named.into_iter().map(|(name, path)| (name, text(path))).collect();
        let mut rows = Vec::new();
        if let Some(helm3) = helm3 {
            placeholders.insert("helm3", text(helm3));
            rows.push(ImageRow::operator("**/coder-upgrade-operator:*-helm3", "{helm3}"));
        }
        rows.push(ImageRow::operator("**/coder-upgrade-operator:*", "{helm}"));
        rows.push(ImageRow::coder("**/coder:*", &[]));
        rows.push(ImageRow::coder("**/coderenvs/coder-service:*", &[]));
        rows.push(ImageRow::coder("**/coderenvs/dashboard:*", &["dashboard"]));
        rows.push(ImageRow::coder("**/coderenvs/envproxy:*", &["envproxy"]));
        rows.extend(["**/postgres:*", "**/timescale:*"].map(|pattern| ImageRow::coder(pattern, &["database"])));
        rows.push(ImageRow { pattern: "**/testbed-host:*".into(), command: Some(Vec::new()), ..ImageRow::default() });
        Self { rows, placeholders }
    }

    /// Puts the rows of a YAML file (a list of [`ImageRow`]) before those there are.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a list of rows; the message names file, line and field.
    pub fn with_file(self, path: &Path) -> Result<Self, NodeError> {
        let unusable = |message: String| NodeError::Images { path: path.to_owned(), message };
        let yaml = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        let rows: Vec<ImageRow> = serde_saphyr::from_str(&yaml).map_err(|error| unusable(error.to_string()))?;
        rows.iter().try_for_each(|row| row.glob().map(drop)).map_err(|error| unusable(error.to_string()))?;
        Ok(self.with_rows(rows))
    }

    /// Puts rows before those there are.
    #[must_use]
    pub(crate) fn with_rows(mut self, mut rows: Vec<ImageRow>) -> Self {
        rows.append(&mut self.rows);
        Self { rows, ..self }
    }

    /// What to run for a container of `image` whose pod asks for `command` (its command and arguments).
    #[must_use]
    pub fn resolve(&self, image: &str, command: &[String]) -> ResolvedImage {
        let image = ImageRef::parse(image);
        let Some(row) = self.rows.iter().find(|row| row.matches(&image)) else {
            return ResolvedImage {
                program: Program::Pause,
                env: BTreeMap::new(),
                tools: BTreeMap::new(),
                exec: ExecHandling::Pass,
            };
        };
        let fill = |text: &String| self.fill(text, &image);
        let own = row.command.as_ref().map(|command| command.iter().map(fill).collect::<Vec<_>>());
        ResolvedImage {
            program: own.map_or(Program::Pause, |own| Program::Command(join(own, command))),
            env: row.env.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
            tools: row.tools.iter().map(|(name, path)| (name.clone(), PathBuf::from(fill(path)))).collect(),
            exec: row.exec,
        }
    }

    fn fill(&self, text: &str, image: &ImageRef) -> String {
        let mut filled = text
            .replace("{name}", &image.name)
            .replace("{tag}", &image.tag)
            .replace("{version}", image.tag.strip_prefix('v').unwrap_or(&image.tag));
        for (name, value) in &self.placeholders {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        filled
    }
}

impl ImageRow {
    fn matches(&self, image: &ImageRef) -> bool {
        let last = self.pattern.rsplit('/').next().unwrap_or(&self.pattern);
        let name = if last.contains(':') { format!("{}:{}", image.name, image.tag) } else { image.name.clone() };
        self.glob().is_ok_and(|glob| glob.compile_matcher().is_match(name))
    }

    fn glob(&self) -> Result<Glob, globset::Error> {
        GlobBuilder::new(&self.pattern).literal_separator(true).build()
    }

    fn operator(pattern: &str, helm: &str) -> Self {
        Self {
            pattern: pattern.into(),
            command: Some(vec!["{operator}".into()]),
            tools: BTreeMap::from([("helm".into(), helm.into())]),
            ..Self::default()
        }
    }

    fn coder(pattern: &str, arguments: &[&str]) -> Self {
        let program = std::iter::once("{bin}/coder-sim").chain(arguments.iter().copied());
        Self {
            pattern: pattern.into(),
            command: Some(program.map(str::to_owned).collect()),
            env: BTreeMap::from([("CODER_SIM_VERSION".into(), "{version}".into())]),
            tools: BTreeMap::from([("coder".into(), "{bin}/coder-sim".into())]),
            exec: ExecHandling::Pass,
        }
    }
}

/// The row's command and then the pod's, which may begin with the row's program by its own name. A shell is in every image.
fn join(mut own: Vec<String>, command: &[String]) -> Vec<String> {
    let file_name = |program: &String| Path::new(program).file_name().map(std::ffi::OsStr::to_owned);
    if command.first().and_then(file_name).is_some_and(|program| program == "sh") {
        return command.to_vec();
    }
    let repeated = own.first().and_then(file_name).is_some_and(|own| command.first().and_then(file_name) == Some(own));
    own.extend(command.iter().skip(usize::from(repeated)).cloned());
    own
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ImageTable {
        ImageTable::defaults(
            Path::new("/bin/coder-upgrade-operator"),
            Path::new("/bin"),
            Path::new("/helm4/helm"),
            Some(Path::new("/helm3/helm3")),
        )
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn images_of_coder_are_the_simulator_in_the_version_of_the_tag() {
        for (image, command, program) in [
            ("ghcr.io/coder/coder:v2.31.7", "/opt/coder server", "/bin/coder-sim /opt/coder server"),
            ("mirror.example/a/b/coder:v2.31.7", "server", "/bin/coder-sim server"),
            ("docker.io/coderenvs/coder-service:2.31.7", "cemanager migrate up", "/bin/coder-sim cemanager migrate up"),
            ("docker.io/library/postgres:2.31.7", "", "/bin/coder-sim database"),
            ("ghcr.io/coder/coder:v2.31.7", "/bin/sh -c coder", "/bin/sh -c coder"),
        ] {
            let resolved = table().resolve(image, &words(command));
            assert_eq!(resolved.program, Program::Command(words(program)), "{image}");
            assert_eq!(resolved.env["CODER_SIM_VERSION"], "2.31.7", "{image}");
        }
    }

    #[test]
    fn the_operators_image_has_the_helm_its_tag_asks_for() {
        for (image, helm) in [
            ("coder-upgrade-operator:v0.1.0", "/helm4/helm"),
            ("ghcr.io/x/coder-upgrade-operator:v0.1.0-helm3", "/helm3/helm3"),
        ] {
            let resolved = table().resolve(image, &words("/coder-upgrade-operator runner plan"));
            assert_eq!(resolved.program, Program::Command(words("/bin/coder-upgrade-operator runner plan")));
            assert_eq!(resolved.tools["helm"], PathBuf::from(helm));
        }
    }

    #[test]
    fn an_unknown_image_is_a_pause() {
        let resolved = table().resolve("quay.io/some/thing:1", &words("run --it"));
        assert_eq!(resolved.program, Program::Pause);
    }

    #[test]
    fn rows_of_a_file_come_first_and_mistakes_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("images.yaml");
        std::fs::write(&file, "- pattern: '**/coder:v9.*'\n  command: ['{bin}/other', '{tag}']\n").unwrap();
        let resolved = table().with_file(&file).unwrap().resolve("coder:v9.1.0", &[]);
        assert_eq!(resolved.program, Program::Command(words("/bin/other v9.1.0")));

        std::fs::write(&file, "- pattern: x\n  comand: [y]\n").unwrap();
        let error = table().with_file(&file).unwrap_err().to_string();
        assert!(error.contains("comand") && error.contains("images.yaml"), "{error}");
    }
}
