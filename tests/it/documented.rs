//! The tests that the documentation names: the last column of each table that ends with "test". What is renamed or removed
//! would be promised there without proof.

use std::path::{Path, PathBuf};

use crate::common::files;

/// What a row may have instead of a name.
const OTHERWISE: [&str; 5] = ["", "–", "test", "the same", "all tests"];

/// A file with tests.
struct Tests {
    path: PathBuf,
    /// Path of the module: `upgrade::servers`.
    module: String,
    names: Vec<String>,
}

impl Tests {
    fn read(path: &Path, folder: &Path) -> Self {
        let names = tests(&std::fs::read_to_string(path).unwrap());
        let parts = path.strip_prefix(folder).unwrap().with_extension("");
        let parts: Vec<_> = parts.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").collect();
        Self { path: path.to_owned(), module: parts.join("::"), names }
    }

    /// Whether the module, with or without its `mod tests`, has this name or ends with it.
    fn is(&self, name: &str) -> bool {
        let ends = |module: &str| format!("::{module}").ends_with(&format!("::{name}"));
        !self.names.is_empty() && (ends(&self.module) || ends(&format!("{}::tests", self.module)))
    }

    fn has(&self, test: &str) -> bool {
        self.names.iter().any(|name| name == test)
    }
}

/// The functions that an attribute makes a test.
fn tests(text: &str) -> Vec<String> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            is_test |= ["#[test", "#[tokio::test", "#[rstest"].iter().any(|attribute| line.starts_with(attribute));
        } else if let Some((_, name)) = line.split_once("fn ") {
            let name = name.split(['(', '<']).next().unwrap_or_default();
            names.extend(is_test.then(|| name.to_owned()));
            is_test = false;
        }
    }
    names
}

fn all() -> Vec<Tests> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "tests/it", "testbed/src", "xtask/src"].map(|folder| root.join(folder));
    let read = |folder: &PathBuf| files(folder).iter().map(|file| Tests::read(file, folder)).collect::<Vec<_>>();
    folders.iter().flat_map(read).collect()
}

/// The last cell of each row of the tables that end with a column of tests.
fn cells(text: &str) -> Vec<String> {
    let (mut cells, mut tests) = (Vec::new(), false);
    for line in text.lines() {
        let row = line.strip_prefix('|').and_then(|row| row.strip_suffix('|'));
        let Some(cell) = row.and_then(|row| row.split('|').next_back()).map(str::trim) else {
            tests = false;
            continue;
        };
        tests |= cell == "test";
        if tests && !cell.contains("---") {
            cells.push(cell.to_owned());
        }
    }
    cells
}

/// What a cell names and is nowhere: files and their tests, or modules and their tests.
fn missing(cell: &str, all: &[Tests]) -> Vec<String> {
    let (mut missing, mut file) = (Vec::new(), None);
    for name in cell.split('`').skip(1).step_by(2) {
        let found = if name.contains('/') {
            file = Some(name);
            all.iter().any(|tests| tests.path.ends_with(name) && !tests.names.is_empty())
        } else if let Some((module, test)) = name.rsplit_once("::").filter(|(module, _)| *module != "…") {
            all.iter().any(|tests| tests.is(name) || tests.is(module) && tests.has(test))
        } else {
            let name = name.trim_start_matches("…::");
            all.iter().any(|tests| tests.has(name) && file.is_none_or(|file| tests.path.ends_with(file)))
        };
        missing.extend((!found).then(|| name.to_owned()));
    }
    missing
}

#[test]
fn the_tests_that_the_documentation_names_exist() {
    let all = all();
    let mut rows = 0;
    for document in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")) {
        let text = std::fs::read_to_string(&document).unwrap();
        for cell in cells(&text) {
            let missing = missing(&cell, &all);
            assert!(missing.is_empty(), "{} names {missing:?}, which is no test", document.display());
            assert!(OTHERWISE.contains(&cell.as_str()) || cell.contains('`'), "{}: {cell}", document.display());
            rows += 1;
        }
    }
    assert!(rows > 0, "a table has tests");
}

#[test]
fn a_name_without_a_test_is_found() {
    let text = "#[rstest]\n#[case::a(1)]\nasync fn one(#[case] n: u8) {\n}\nfn helper() {}\n#[test]\nfn two() {}\n";
    assert_eq!(tests(text), ["one", "two"]);
    let (path, module) = ("tests/it/plan/yaml.rs".into(), "plan::yaml".to_owned());
    let all = [Tests { path, module, names: tests(text) }];
    let named = "`tests/it/plan/yaml.rs` `one`, `yaml::two`, `…::one`, `plan::yaml::tests`; `helper`, `other::one`, `src/one.rs`";
    assert_eq!(missing(named, &all), ["helper", "other::one", "src/one.rs"]);
    assert_eq!(cells("| a | test |\n| --- | --- |\n| b | `c` |\n\n| a | b |\n| c | d |\n"), ["test", "`c`"]);
}
