//! What pages link to, and whether it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use mdbook_markdown::pulldown_cmark::{Event, Tag, TagEnd};
use mdbook_markdown::{MarkdownOptions, new_cmark_parser};
use regex::Regex;

use crate::Result;

/// A link or a picture in Markdown.
struct Link {
    target: String,
    /// Where it stands in the text.
    whole: Range<usize>,
    /// Where its words stand.
    words: Range<usize>,
}

fn links(markdown: &str) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    let mut open = false;
    for (event, range) in new_cmark_parser(markdown, &MarkdownOptions::default()).into_offset_iter() {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                open = true;
                links.push(Link {
                    target: dest_url.into_string(),
                    whole: range.clone(),
                    words: range.end..range.start,
                });
            }
            Event::End(TagEnd::Link | TagEnd::Image) => open = false,
            _ if open => {
                if let Some(link) = links.last_mut() {
                    link.words = link.words.start.min(range.start)..link.words.end.max(range.end);
                }
            }
            _ => {}
        }
    }
    links
}

/// What a text in Markdown links to.
pub fn targets(markdown: &str) -> Vec<String> {
    links(markdown).into_iter().map(|link| link.target).collect()
}

/// Whether a target is an address of its own, and not a place among our files.
fn is_elsewhere(target: &str) -> bool {
    target.split_once(':').is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// A path without `.` and `..`; nothing if it leads above all directories.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => plain.pop().then_some(())?,
            part => plain.push(part),
        }
    }
    Some(plain)
}

/// The text of a page of the book. Links to files that are not in the book lead to the repository, or else are words only.
pub fn of_a_book(
    root: &Path,
    source: &Path,
    page: &Path,
    markdown: &str,
    repository: Option<&str>,
    problems: &mut Vec<String>,
) -> String {
    let mut text = markdown.to_owned();
    // From the end, so that places that come earlier stay where they are.
    for link in links(markdown).into_iter().rev() {
        let path = link.target.split('#').next().unwrap_or_default();
        if path.is_empty() || is_elsewhere(&link.target) {
            continue;
        }
        let file = page.parent().and_then(|directory| plain(&directory.join(path)));
        let Some(file) = file.filter(|file| !file.starts_with(source)) else { continue };
        let inside = file.strip_prefix(root).ok().filter(|_| file.exists());
        let Some(inside) = inside else {
            problems.push(format!("{}: {} is not there", page.display(), link.target));
            continue;
        };
        let words = markdown.get(link.words).unwrap_or_default();
        let instead = match repository {
            Some(repository) => format!("[{words}]({repository}/blob/HEAD/{})", inside.display()),
            None => words.to_owned(),
        };
        text.replace_range(link.whole, &instead);
    }
    text
}

/// A page as it was written: the places on it, and what it links to.
struct Page {
    places: BTreeSet<String>,
    targets: Vec<String>,
}

/// All pages of a book, by their paths.
pub struct Pages {
    directory: PathBuf,
    pages: BTreeMap<PathBuf, Page>,
}

impl Pages {
    /// Reads the web pages in a directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut pages = Self { directory: directory.to_owned(), pages: BTreeMap::new() };
        pages.add(directory)?;
        Ok(pages)
    }

    fn add(&mut self, directory: &Path) -> Result<()> {
        let places = Regex::new(r#"\bid="([^"]+)""#)?;
        let targets = Regex::new(r#"\b(?:href|src)="([^"]+)""#)?;
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                self.add(&path)?;
            } else if path.extension().is_some_and(|extension| extension == "html") {
                let text = std::fs::read_to_string(&path)?;
                let all = |what: &Regex| what.captures_iter(&text).map(|found| found[1].to_owned()).collect::<Vec<_>>();
                let page = Page { places: all(&places).into_iter().collect(), targets: all(&targets) };
                self.pages.insert(path, page);
            }
        }
        Ok(())
    }

    /// Whether a place of a page, or any file, is there.
    fn has(&self, file: &Path, place: Option<&str>) -> bool {
        match (self.pages.get(file), place) {
            (Some(page), Some(place)) => page.places.contains(place),
            (None, Some(_)) => false,
            (_, None) => file.exists(),
        }
    }

    /// Links of the book that lead nowhere.
    pub fn dead(&self) -> Vec<String> {
        let mut dead = Vec::new();
        for (file, page) in &self.pages {
            // It is shown at whatever address is not there, so its links begin at the root of the site.
            if file.ends_with("404.html") {
                continue;
            }
            for target in page.targets.iter().filter(|target| !is_elsewhere(target)) {
                let (path, place) = parts(target);
                let directory = file.parent().unwrap_or(file);
                let to = if path.is_empty() { Some(file.clone()) } else { plain(&directory.join(path)) };
                if !to.is_some_and(|to| self.has(&to, place)) {
                    let name = file.strip_prefix(&self.directory).unwrap_or(file);
                    dead.push(format!("{}: {target} is not there", name.display()));
                }
            }
        }
        dead
    }

    /// What is wrong with a link from a file beside the book.
    pub fn problem(&self, root: &Path, source: &Path, from: &Path, target: &str) -> Option<String> {
        if is_elsewhere(target) {
            return None;
        }
        let (path, place) = parts(target);
        let file = from.parent().and_then(|directory| plain(&directory.join(path)));
        let is_there = file.is_some_and(|file| {
            if !file.starts_with(root) || !file.exists() {
                return false;
            }
            let page = file.strip_prefix(source).map(|page| self.directory.join(page).with_extension("html"));
            place.is_none() || page.is_ok_and(|page| self.has(&page, place))
        });
        (!is_there).then(|| format!("{}: {target} is not there", from.display()))
    }
}

/// The path and the place on the page.
fn parts(target: &str) -> (&str, Option<&str>) {
    target.split_once('#').map_or((target, None), |(path, place)| (path, Some(place).filter(|place| !place.is_empty())))
}
