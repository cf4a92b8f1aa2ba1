//! `cargo xtask generate`: files that are made from the types of the API.

use coder_upgrade_operator::api;

use crate::{Result, checks, failures, reference, workspace};

/// Write the generated files: crds/coderupgrades.yaml, docs/reference.md, docs/failures.md and docs/checks.md.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write nothing; fail if one of them is not what would be written.
    #[arg(long)]
    check: bool,
}

/// Path from the root of the repository, and contents.
type Generated = (&'static str, String);

fn generated() -> Result<[Generated; 4]> {
    Ok([
        ("crds/coderupgrades.yaml", serde_saphyr::to_string(&api::crd())?),
        (reference::PATH, reference::markdown()),
        (failures::PATH, failures::markdown()),
        (checks::PATH, checks::markdown()),
    ])
}

/// Writes or compares the files.
pub async fn run(args: Args) -> Result<()> {
    let mut stale = Vec::new();
    for (path, wanted) in generated()? {
        let file = workspace::root().join(path);
        // A file that cannot be read is as stale as one that differs; writing it says why.
        if tokio::fs::read_to_string(&file).await.is_ok_and(|present| present == wanted) {
            continue;
        }
        if !args.check {
            tokio::fs::write(&file, wanted)
                .await
                .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            println!("wrote {path}");
        }
        stale.push(path);
    }
    if args.check && !stale.is_empty() {
        return Err(format!("{} out of date: run `cargo xtask generate`", stale.join(", ")).into());
    }
    Ok(())
}
