//! How the files of a plan are laid out over Secrets, and put together again.
//!
//! A Secret holds 1 MiB. A plan that takes more lies in several of them, which are its parts: the files fill one part after the
//! other, and a file that does not fit into what is left of a part goes on in the next one, under its key with the number of the
//! part (`chart.tgz.2`). The first part has an index with the digest of each file, so that a part that is missing or of another
//! plan is found before anything is believed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::core::text::bounded::{self, Unreadable};
use crate::core::text::digest::hex;

/// What the data of a Secret may take together, in bytes: a limit of the API server.
pub const ROOM: usize = 1 << 20;
/// Into how many parts a plan is split at most. helm's own record of a release, which has chart, values and manifest as the plan
/// does, must fit into one Secret: a plan that takes more than this is no plan for a release that helm can install.
pub const MOST: usize = 8;
/// Key of the index in the first part of a plan that has several.
pub const INDEX: &str = "parts.json";
/// What is kept free for the index in the first part, in bytes: it has four files at most.
const INDEX_ROOM: usize = 4 << 10;

/// A file of the plan: its key and its content.
pub type PlanFile = (&'static str, Vec<u8>);
/// The data of one Secret.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// The files of a plan that has several parts.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct FileIndex(BTreeMap<String, FileEntry>);

/// Where a file lies, and what it is.
#[derive(Debug, Deserialize, Serialize)]
pub struct FileEntry {
    /// The numbers of the parts that it lies in, in the order of its content.
    parts: Vec<usize>,
    /// SHA-256 of the whole file, in hex.
    digest: String,
}

impl FileIndex {
    /// Reads the index.
    pub fn read(text: &[u8]) -> Result<Self, Unreadable> {
        bounded::json(text)
    }

    /// What the index says of a file.
    pub fn entry(&self, file: &str) -> Option<&FileEntry> {
        self.0.get(file)
    }
}

impl FileEntry {
    /// The keys under which the pieces of the file lie, each with the number of its part.
    pub fn pieces<'a>(&'a self, file: &'a str) -> impl Iterator<Item = (usize, String)> + 'a {
        self.parts.iter().map(move |number| (*number, key(file, *number, self.parts.len() == 1)))
    }

    /// Whether the content is that of the file.
    pub fn is_of(&self, content: &[u8]) -> bool {
        digest(content) == self.digest
    }
}

/// Names of the Secrets of a plan, of which there is one if nothing else is said. The first one has the name of the plan.
pub fn names(plan: &str, parts: Option<i32>) -> Vec<String> {
    let parts = parts.and_then(|parts| usize::try_from(parts).ok()).unwrap_or(1);
    (1..=parts.clamp(1, MOST)).map(|number| name(plan, number)).collect()
}

/// Name of the Secret with a part of a plan.
pub fn name(plan: &str, number: usize) -> String {
    if number == 1 { plan.to_owned() } else { format!("{plan}-{number}") }
}

/// Lays the files out over as few parts as they need: the same files always in the same way, so that a part that is lost can be
/// written again. A plan that fits into one Secret has no index.
pub fn lay_out(files: Vec<PlanFile>) -> Vec<SecretData> {
    let whole: usize = files.iter().map(|(_, content)| content.len()).sum();
    if whole <= ROOM {
        return vec![files.into_iter().map(|(file, content)| (file.to_owned(), content)).collect()];
    }
    let (mut parts, mut left, mut index) = (vec![SecretData::new()], ROOM - INDEX_ROOM, FileIndex::default());
    for (file, content) in files {
        let mut rest = content.as_slice();
        let mut pieces = Vec::new();
        loop {
            let (piece, after) = rest.split_at(rest.len().min(left));
            left -= piece.len();
            pieces.push((parts.len(), piece));
            rest = after;
            if rest.is_empty() {
                break;
            }
            parts.push(SecretData::new());
            left = ROOM;
        }
        let alone = pieces.len() == 1;
        let entry = FileEntry { parts: pieces.iter().map(|(number, _)| *number).collect(), digest: digest(&content) };
        for (number, piece) in pieces {
            parts[number - 1].insert(key(file, number, alone), piece.to_vec());
        }
        index.0.insert(file.to_owned(), entry);
    }
    parts[0].insert(INDEX.to_owned(), serde_json::to_vec(&index).unwrap_or_default());
    parts
}

fn key(file: &str, number: usize, alone: bool) -> String {
    if alone { file.to_owned() } else { format!("{file}.{number}") }
}

fn digest(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::plan::key::{CHART, PLAN, PREVIOUS_RELEASE, VALUES};

    fn files(sizes: [usize; 4]) -> Vec<PlanFile> {
        [PLAN, VALUES, PREVIOUS_RELEASE, CHART].into_iter().zip(sizes.map(noise)).collect()
    }

    fn noise(size: usize) -> Vec<u8> {
        (0..size).map(|at| u8::try_from((at * at / 7 + size) % 251).unwrap()).collect()
    }

    /// As the runner finds a file: in one directory with all parts.
    fn joined(parts: &[SecretData], file: &str) -> Option<Vec<u8>> {
        let mounted: SecretData = parts.iter().flat_map(Clone::clone).collect();
        let index = FileIndex::read(&mounted[INDEX]).unwrap();
        let entry = index.entry(file)?;
        let pieces: Option<Vec<Vec<u8>>> = entry.pieces(file).map(|(_, key)| mounted.get(&key).cloned()).collect();
        Some(pieces?.concat()).filter(|content| entry.is_of(content))
    }

    #[test]
    fn what_fits_into_one_secret_lies_there_as_it_is() {
        let parts = lay_out(files([10, 20, 30, ROOM - 60]));
        assert_eq!(parts, [files([10, 20, 30, ROOM - 60]).into_iter().map(|(k, v)| (k.to_owned(), v)).collect()]);
    }

    #[test]
    fn a_part_that_is_missing_or_of_another_plan_is_found() {
        let parts = lay_out(files([4000, 1000, 800_000, 700_000]));
        assert_eq!(parts.len(), 2);
        assert_eq!(joined(&parts, CHART), Some(noise(700_000)));
        assert_eq!(joined(&parts[..1], CHART), None);
        let other = lay_out(files([4000, 1000, 800_000, 700_001]));
        assert_eq!(joined(&[parts[0].clone(), other[1].clone()], CHART), None);
        assert_eq!(
            joined(&[parts[0].clone(), other[1].clone()], VALUES),
            Some(noise(1000)),
            "it lies in the first part"
        );
    }

    #[test]
    fn the_first_secret_has_the_name_of_the_plan_and_no_report_makes_many() {
        assert_eq!(names("coder-plan-1", None), ["coder-plan-1"]);
        assert_eq!(names("coder-plan-1", Some(3)), ["coder-plan-1", "coder-plan-1-2", "coder-plan-1-3"]);
        assert_eq!([-1, 0, i32::MAX].map(|parts| names("p", Some(parts)).len()), [1, 1, MOST]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_part_fits_and_every_file_comes_back(sizes in prop::array::uniform4(0..2_200_000_usize)) {
            let parts = lay_out(files(sizes));
            for part in &parts {
                prop_assert!(part.values().map(Vec::len).sum::<usize>() <= ROOM);
            }
            if parts.len() > 1 {
                for (file, content) in files(sizes) {
                    prop_assert_eq!(joined(&parts, file), Some(content));
                }
                let whole: usize = sizes.iter().sum();
                prop_assert_eq!(parts.len(), (whole + INDEX_ROOM).div_ceil(ROOM));
            }
        }
    }
}
