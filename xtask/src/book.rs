//! `cargo xtask book`: the documents as web pages.
//!
//! - `links`: what Markdown and web pages link to, and whether it is there;
//! - `warnings`: what mdBook warns of.

mod links;
mod warnings;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mdbook_driver::MDBook;
use mdbook_driver::config::Config;
use serde_json::Value;

use crate::{Result, workspace};
use links::Pages;

/// Files outside of the book whose links into it are checked, too.
const BESIDE: [&str; 2] = ["README.md", "deploy/README.md"];

/// The alerts, each with the address of its part of the runbook.
const ALERTS: &str = "deploy/monitoring/rules.yaml";

/// Build the documents as web pages, and check their links.
///
/// Fails if a page or a place on a page that something links to is not there, if a page is in no list of contents, or if mdBook
/// warns of anything.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of the pages; what is in it is replaced. Default: target/book
    #[arg(long)]
    output: Option<PathBuf>,
    /// Address of the public repository, to which links to other files than pages lead. Without it such files are named, not linked
    #[arg(long)]
    repository: Option<String>,
}

/// Builds the book. Every problem of it is told.
pub async fn run(args: Args) -> Result<()> {
    let root = workspace::root();
    let output = match args.output {
        Some(output) => std::path::absolute(output)?,
        None => workspace::target().join("book"),
    };
    let directory = output.clone();
    let problems = tokio::task::spawn_blocking(move || build(&root, &directory, args.repository.as_deref())).await??;
    if problems.is_empty() {
        println!("wrote {}", output.join("index.html").display());
        return Ok(());
    }
    Err(format!("the book has problems:\n  {}", problems.join("\n  ")).into())
}

/// Writes the pages and returns what is wrong with them.
fn build(root: &Path, output: &Path, repository: Option<&str>) -> Result<Vec<String>> {
    let mut config = Config::from_disk(root.join("book.toml")).map_err(|error| told(&error))?;
    output.clone_into(&mut config.build.build_dir);
    let source = root.join(&config.book.src);
    let mut problems = Vec::new();
    let (rendered, warned) = warnings::during(|| {
        let mut book = MDBook::load_with_config(root, config)?;
        let mut listed = BTreeSet::new();
        book.book.for_each_chapter_mut(|chapter| {
            let Some(path) = chapter.source_path.as_ref().map(|path| source.join(path)) else { return };
            chapter.content = links::of_a_book(root, &source, &path, &chapter.content, repository, &mut problems);
            listed.insert(path);
        });
        book.build()?;
        Ok(listed)
    });
    let listed = rendered.map_err(|error| told(&error))?;
    problems.extend(warned);
    for page in pages_in(&source)? {
        if !listed.contains(&page) && !page.ends_with("SUMMARY.md") {
            problems.push(format!("{} is not in SUMMARY.md", page.display()));
        }
    }
    let pages = Pages::read(output)?;
    problems.extend(pages.dead());
    for file in BESIDE.iter().map(|file| root.join(file)).filter(|file| file.exists()) {
        let text = std::fs::read_to_string(&file)?;
        let targets = links::targets(&text);
        problems.extend(targets.iter().filter_map(|target| pages.problem(root, &source, &file, target)));
    }
    for (alert, runbook) in runbooks(&std::fs::read_to_string(root.join(ALERTS))?)? {
        let from = root.join(ALERTS);
        // The addresses are seen from the root of the repository, for an alert is read far from its file.
        let problem = pages.problem(root, &source, &root.join("README.md"), &runbook);
        problems.extend(problem.map(|problem| format!("{}: {alert}: {problem}", from.display())));
        if !runbook.contains('#') {
            problems.push(format!("{}: {alert} has no section of the runbook", from.display()));
        }
    }
    let root = format!("{}/", root.display());
    Ok(problems.into_iter().map(|problem| problem.replace(&root, "")).collect())
}

/// An error of mdBook with its causes.
fn told(error: &mdbook_driver::errors::Error) -> String {
    format!("{error:#}")
}

/// The Markdown files below a directory.
fn pages_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            pages.extend(pages_in(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(pages)
}

/// The alerts of a `PrometheusRule`, each with its `runbook_url`.
fn runbooks(rules: &str) -> Result<Vec<(String, String)>> {
    let rules: Value = serde_saphyr::from_str(rules)?;
    let groups = rules["spec"]["groups"].as_array().ok_or("the rules have no groups")?;
    let alerts = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(alerts.map(|alert| (text(&alert["alert"]), text(&alert["annotations"]["runbook_url"]))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str =
        "[book]\ntitle = \"t\"\nsrc = \"docs\"\n[build]\ncreate-missing = false\n[output.html.print]\nenable = false\n";

    /// A book of two pages in a repository, with other text in some of its files.
    fn problems(changed: &[(&str, &str)]) -> (tempfile::TempDir, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        let alert = "spec: {groups: [{rules: [{alert: A, annotations: {runbook_url: docs/b.md#what-to-do}}]}]}\n";
        let files = [
            ("book.toml", TOML),
            ("README.md", "[b](docs/b.md#what-to-do), [code](src/main.rs), [x](https://example.com/no-such-page)\n"),
            ("src/main.rs", "fn main() {}\n"),
            (ALERTS, alert),
            ("docs/SUMMARY.md", "# Summary\n\n[A](a.md)\n\n- [B](b.md)\n"),
            (
                "docs/a.md",
                "# A\n\n[b](b.md), [there](b.md#what-to-do), [here](#more), [the `code`](../src/main.rs)\n\n## More\n",
            ),
            ("docs/b.md", "# B\n\n## What to do\n"),
        ];
        for (path, text) in files.iter().chain(changed) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let problems = build(root.path(), &root.path().join("out"), None).unwrap();
        (root, problems)
    }

    #[test]
    fn a_book_without_problems_has_none() {
        let (root, problems) = problems(&[]);
        assert!(problems.is_empty(), "{problems:?}");
        let page = std::fs::read_to_string(root.path().join("out/a.html")).unwrap();
        assert!(page.contains("href=\"b.html#what-to-do\""), "{page}");
        assert!(
            page.contains("the <code>code</code>") && !page.contains("main.rs"),
            "a file outside is no link: {page}"
        );
    }

    #[test]
    fn links_to_files_lead_to_the_repository_if_there_is_one() {
        let (root, _) = problems(&[]);
        let output = root.path().join("out");
        build(root.path(), &output, Some("https://git.example.com/o")).unwrap();
        let page = std::fs::read_to_string(output.join("a.html")).unwrap();
        assert!(page.contains("href=\"https://git.example.com/o/blob/HEAD/src/main.rs\""), "{page}");
    }

    #[test]
    fn each_problem_is_named() {
        let cases = [
            ("docs/b.md", "# B\n\n## What to do\n\n[gone](gone.md)\n", "b.html: gone.html is not there"),
            ("docs/b.md", "# B\n\n## What to do\n\n[a](a.md#nowhere)\n", "b.html: a.html#nowhere is not there"),
            ("docs/b.md", "# B\n\n## What to do\n\n![p](p.svg)\n", "b.html: p.svg is not there"),
            ("docs/b.md", "# B\n\n## What to do\n\n[f](../src/gone.rs)\n", "docs/b.md: ../src/gone.rs is not there"),
            ("docs/c.md", "# C\n", "docs/c.md is not in SUMMARY.md"),
            ("README.md", "[b](docs/b.md#nowhere)\n", "README.md: docs/b.md#nowhere is not there"),
            ("README.md", "[b](docs/gone.md)\n", "README.md: docs/gone.md is not there"),
            ("deploy/README.md", "[b](../docs/b.md#nowhere)\n", "deploy/README.md: ../docs/b.md#nowhere is not there"),
            ("docs/b.md", "# B\n", "rules.yaml: A: README.md: docs/b.md#what-to-do is not there"),
            ("docs/b.md", "# B\n\n## What to do\n\n{{#include gone.txt}}\n", "gone.txt"),
        ];
        for (path, text, expected) in cases {
            let (_root, problems) = problems(&[(path, text)]);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{path} {text:?}: {problems:?}");
        }
    }
}
