//! A look into packaged charts: the Coder that another chart brings along.

use serde_json::Value;

use super::chart::ChartMetadata;
use super::wrapped::CODER;
use crate::core::text::bounded;

/// Length of a header, and of the blocks that files are padded to, in bytes.
const BLOCK: usize = 512;
/// Greatest size of a packaged dependency when it is unpacked, in bytes.
const UNPACKED: usize = 32 << 20;

/// Name and content of each file of a tar archive. What is no archive has none.
pub fn files(tar: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    let mut rest = tar;
    std::iter::from_fn(move || {
        loop {
            let header = rest.get(..BLOCK).filter(|header| header[0] != 0)?;
            let text = |from: usize, to: usize| {
                let field = header[from..to].split(|byte| *byte == 0).next().unwrap_or_default();
                String::from_utf8_lossy(field).trim().to_owned()
            };
            let size = usize::from_str_radix(&text(124, 136), 8).ok()?;
            let content = rest.get(BLOCK..BLOCK.checked_add(size)?)?;
            let (name, prefix) = (text(0, 100), text(345, 500));
            let regular = matches!(header[156], 0 | b'0');
            rest = rest.get(BLOCK + size.div_ceil(BLOCK) * BLOCK..).unwrap_or_default();
            if regular {
                return Some((if prefix.is_empty() { name } else { format!("{prefix}/{name}") }, content));
            }
        }
    })
}

/// The Chart.yaml of the Coder among the dependencies of a chart: in a directory of its own, or packaged.
pub fn coder_within(tar: &[u8]) -> Option<ChartMetadata> {
    let read = |text: &[u8]| bounded::yaml::<ChartMetadata>(&String::from_utf8_lossy(text)).ok();
    files(tar).find_map(|(name, content)| {
        let (_, inner) = name.split_once("/charts/")?;
        let chart = if is_archive(inner) && !inner.contains('/') {
            let inner = bounded::gunzip(content, UNPACKED).ok()?;
            let found = files(&inner).find(|(name, _)| name.matches('/').count() == 1 && name.ends_with("/Chart.yaml"));
            found.and_then(|(_, content)| read(content))
        } else if inner.matches('/').count() == 1 && inner.ends_with("/Chart.yaml") {
            read(content)
        } else {
            None
        };
        chart.filter(|chart| chart.name == CODER)
    })
}

/// Whether helm takes a file among dependencies for a packaged chart: by its ending, in small letters.
fn is_archive(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| ending == "tgz")
}

/// The definitions of kinds that a chart, or a chart in it, brings along in `crds/`.
pub fn definitions(tar: &[u8]) -> Vec<Value> {
    let mut found = Vec::new();
    for (name, content) in files(tar) {
        if name.contains("/crds/") && [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end)) {
            let text = String::from_utf8_lossy(content);
            found.extend(
                text.split("\n---")
                    .filter_map(|document| bounded::yaml::<Value>(document.trim_start_matches('-')).ok()),
            );
        } else if name.contains("/charts/") && is_archive(&name) {
            found.extend(bounded::gunzip(content, UNPACKED).map(|inner| definitions(&inner)).unwrap_or_default());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut packed = Vec::new();
        for (name, content) in files {
            let mut header = vec![0; BLOCK];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            header[156] = b'0';
            packed.extend(header);
            packed.extend(*content);
            packed.resize(packed.len().div_ceil(BLOCK) * BLOCK, 0);
        }
        packed.resize(packed.len() + 2 * BLOCK, 0);
        packed
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn the_coder_within_is_found_as_a_directory_and_as_a_package() {
        let (own, coder) =
            (&b"name: platform\nversion: 1.0.0"[..], &b"name: coder\nversion: 2.31.0\nappVersion: 2.31.1"[..]);
        let found = |tar: &[u8]| coder_within(tar).map(|chart| (chart.version, chart.app_version));
        let expected = Some(("2.31.0".to_owned(), Some("2.31.1".to_owned())));
        let other = &b"name: postgres\nversion: 9.0.0"[..];
        let directory = [
            ("platform/Chart.yaml", own),
            ("platform/charts/pg/Chart.yaml", other),
            ("platform/charts/coder/Chart.yaml", coder),
        ];
        assert_eq!(found(&tar(&directory)), expected);
        let package = gzip(&tar(&[("coder/Chart.yaml", coder), ("coder/charts/libcoder/Chart.yaml", other)]));
        assert_eq!(
            found(&tar(&[("platform/Chart.yaml", own), ("platform/charts/coder-2.31.0.tgz", &package)])),
            expected
        );
        assert_eq!(found(&tar(&[("coder/Chart.yaml", coder), ("coder/charts/libcoder/Chart.yaml", other)])), None);
    }

    #[test]
    fn definitions_are_found_in_the_chart_and_in_packages_within() {
        let inner = gzip(&tar(&[("coder/crds/b.yaml", b"kind: B\n---\nkind: C\n")]));
        let chart = [
            ("platform/crds/a.yaml", &b"---\nkind: A\n"[..]),
            ("platform/crds/README.md", b"kind: no"),
            ("platform/charts/coder-1.0.0.tgz", &inner),
        ];
        let kinds: Vec<String> = definitions(&tar(&chart)).iter().map(|found| found["kind"].to_string()).collect();
        assert_eq!(kinds, [r#""A""#, r#""B""#, r#""C""#]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = (coder_within(&bytes), definitions(&bytes));
        }
    }
}
