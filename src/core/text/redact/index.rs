//! The known secrets, sorted, so that a text is searched for all of them at once: the time for a position of the text grows
//! with the logarithm of their number, and nothing is built again when more become known but the order.

use std::collections::BTreeSet;

use super::view::{Gap, View};

/// A part of a secret at the edge of a line is hidden from this many bytes on.
const SHORTEST_PART: usize = 8;
/// So many bytes are no coincidence, unless they are the host of a URL.
const LONG_PART: usize = 16;
/// Longest part that is looked for at an edge, in bytes.
const LONGEST_PART: usize = 4096;

/// A secret without its whitespace, in which programs wrap and fold texts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Needle {
    bytes: Box<[u8]>,
    /// Before which bytes there was whitespace.
    gaps: BTreeSet<usize>,
    /// It looks random: already its beginning is a secret, not only most of it.
    random: bool,
}

/// The known secrets: as few sorted lists as there are powers of two up to their number. Secrets that become known are a new
/// list, joined with those before it that are no longer, so that many small additions cost little more than a large one.
#[derive(Clone, Debug, Default)]
pub struct SecretIndex {
    lists: Vec<List>,
}

impl SecretIndex {
    /// Bytes of all secrets together.
    pub fn bytes(&self) -> usize {
        self.lists.iter().map(|list| list.bytes).sum()
    }

    /// Adds secrets; those shorter than `shortest` without their whitespace are none. Values are hidden again and again on
    /// their way through a step, and nothing is sorted again for that.
    pub fn add(&mut self, secrets: impl IntoIterator<Item = String>, shortest: usize) {
        let mut needles = Vec::new();
        for secret in secrets {
            let view = View::of(&secret);
            if view.bytes().len() >= shortest && !self.lists.iter().any(|list| list.knows(&view)) {
                needles.push(Needle::of(&secret, &view));
            }
        }
        if needles.is_empty() {
            return;
        }
        while let Some(last) = self.lists.pop_if(|last| last.needles.len() <= needles.len()) {
            needles.extend(last.needles);
        }
        self.lists.push(List::of(needles));
    }

    /// How many bytes of the view from `at` on are the longest secret that stands there; 0 if none does.
    pub fn length_at(&self, view: &View, at: usize) -> usize {
        self.lists.iter().map(|list| list.length_at(view, at)).max().unwrap_or_default()
    }

    /// Where in the view the bytes up to `end` begin that begin a secret and do not end it.
    pub fn begun_at(&self, view: &View, end: usize) -> Option<usize> {
        self.lists.iter().filter_map(|list| list.begun_at(view, end)).min()
    }

    /// Where in the view the bytes from `start` on end that end a secret and do not begin it, `end` at the latest.
    pub fn ended_at(&self, view: &View, start: usize, end: usize) -> Option<usize> {
        self.lists.iter().filter_map(|list| list.ended_at(view, start, end)).max()
    }
}

/// Sorted secrets.
#[derive(Clone, Debug, Default)]
struct List {
    needles: Vec<Needle>,
    /// For each needle the longest other one that it begins with.
    parents: Vec<Option<usize>>,
    /// The bytes of each needle backwards, sorted, and which one it is.
    backwards: Vec<(Box<[u8]>, usize)>,
    /// Which pairs of bytes a needle begins with.
    beginnings: Vec<u64>,
    bytes: usize,
}

impl List {
    fn of(needles: Vec<Needle>) -> Self {
        let mut list = Self { needles, ..Self::default() };
        list.sort();
        list
    }

    /// Whether the secret is here, with whitespace in the same places.
    fn knows(&self, view: &View) -> bool {
        let found = self.needles.binary_search_by(|needle| (*needle.bytes).cmp(view.bytes()));
        let mut gaps = view.gaps().iter().enumerate().skip(1).filter(|(_, gap)| **gap != Gap::None);
        found.is_ok_and(|at| gaps.all(|(gap, _)| self.needles[at].gaps.contains(&gap)))
    }

    fn sort(&mut self) {
        self.needles.sort_by(|one, other| one.bytes.cmp(&other.bytes));
        self.needles.dedup_by(|again, first| {
            let same = again.bytes == first.bytes;
            if same {
                first.gaps.append(&mut again.gaps);
            }
            same
        });
        self.bytes = self.needles.iter().map(|needle| needle.bytes.len()).sum();
        self.parents.clear();
        let mut open: Vec<usize> = Vec::new();
        for (at, needle) in self.needles.iter().enumerate() {
            while open.last().is_some_and(|last| !needle.bytes.starts_with(&self.needles[*last].bytes)) {
                open.pop();
            }
            self.parents.push(open.last().copied());
            open.push(at);
        }
        let backwards = |needle: &Needle| needle.bytes.iter().rev().copied().collect();
        self.backwards = self.needles.iter().enumerate().map(|(at, needle)| (backwards(needle), at)).collect();
        self.backwards.sort_unstable();
        self.beginnings = vec![0; 1 << 10];
        for needle in &self.needles {
            let pair = pair(&needle.bytes);
            self.beginnings[pair >> 6] |= 1 << (pair & 63);
        }
    }

    fn length_at(&self, view: &View, at: usize) -> usize {
        let rest = &view.bytes()[at..];
        if rest.len() < 2 || !self.may_begin(rest) {
            return 0;
        }
        // Every needle that the rest begins with is the last one that is not greater, or begins that one.
        let mut candidate = self.needles.partition_point(|needle| *needle.bytes <= *rest).checked_sub(1);
        while let Some(found) = candidate {
            let needle = &self.needles[found];
            if rest.starts_with(&needle.bytes) && needle.fits(0, &view.gaps()[at..at + needle.bytes.len()]) {
                return needle.bytes.len();
            }
            candidate = self.parents[found];
        }
        0
    }

    fn begun_at(&self, view: &View, end: usize) -> Option<usize> {
        let last = (end + 1).saturating_sub(SHORTEST_PART);
        (end.saturating_sub(LONGEST_PART)..last).find(|start| {
            let part = &view.bytes()[*start..end];
            self.may_begin(part) && {
                let at = self.needles.partition_point(|needle| *needle.bytes < *part);
                let needle = self.needles.get(at).filter(|needle| needle.bytes.starts_with(part));
                needle.is_some_and(|needle| needle.is_told_by(part.len()) && needle.fits(0, &view.gaps()[*start..end]))
            }
        })
    }

    fn ended_at(&self, view: &View, start: usize, end: usize) -> Option<usize> {
        let end = end.min(start + LONGEST_PART);
        let backwards: Vec<u8> = view.bytes()[start..end].iter().rev().copied().collect();
        (start + SHORTEST_PART..=end).rev().find(|to| {
            let part = &backwards[end - to..];
            let at = self.backwards.partition_point(|(known, _)| **known < *part);
            let needle = self.backwards.get(at).filter(|(known, _)| known.starts_with(part));
            needle.map(|(_, at)| &self.needles[*at]).is_some_and(|needle| {
                let offset = needle.bytes.len() - part.len();
                needle.is_told_by(part.len()) && needle.fits(offset, &view.gaps()[start..*to])
            })
        })
    }

    fn may_begin(&self, bytes: &[u8]) -> bool {
        let pair = pair(bytes);
        self.beginnings.get(pair >> 6).is_some_and(|bits| bits & (1 << (pair & 63)) != 0)
    }
}

impl Needle {
    fn of(secret: &str, view: &View) -> Self {
        let gaps = view.gaps().iter().enumerate().skip(1).filter(|(_, gap)| **gap != Gap::None);
        let gaps = gaps.map(|(at, _)| at).collect();
        Self { bytes: view.bytes().into(), gaps, random: is_random(secret) }
    }

    /// Whether whitespace in a text is what wrapping and folding make of this secret from `offset` on: blanks where it has
    /// some, line breaks anywhere.
    fn fits(&self, offset: usize, gaps: &[Gap]) -> bool {
        (1..gaps.len()).all(|at| gaps[at] != Gap::Blank || self.gaps.contains(&(offset + at)))
    }

    /// Whether that many of its bytes are a part of this secret and not just a word that it has, too.
    fn is_told_by(&self, length: usize) -> bool {
        self.random
            || length * 2 >= self.bytes.len()
            || length >= LONG_PART && !self.bytes.windows(3).any(|w| w == b"://")
    }
}

/// Letters and digits, or capitals and small letters in between, as in generated passwords.
fn is_random(text: &str) -> bool {
    let any = |test: fn(&u8) -> bool| text.bytes().any(|byte| test(&byte));
    let words = text.contains("://") || text.contains(char::is_whitespace);
    let kinds = [any(u8::is_ascii_digit), any(u8::is_ascii_uppercase), any(u8::is_ascii_lowercase)];
    !words && kinds.into_iter().filter(|kind| *kind).count() >= 2
}

fn pair(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}
