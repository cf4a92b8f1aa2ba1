//! What kubectl completes `kubectl coder-upgrade` with: it asks a program called `kubectl_complete-coder_upgrade`, which answers
//! with a candidate a line and, last, what a shell is to make of them.

use clap::{Arg, Command, FromArgMatches};
use kube::ResourceExt;

use super::error::PluginError;
use super::session::{Session, SessionArgs, print};

/// Tells the shell not to complete the names of files.
const NO_FILES: &str = ":4\n";

/// Prints the candidates for the last of these words.
pub async fn run(words: &[String], whole: &Command) -> Result<u8, PluginError> {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", [].as_slice()),
    };
    let found = candidates(last, before, whole);
    let found = match found {
        Some(found) => found,
        None => names(before, whole).await.unwrap_or_default(),
    };
    let text: String =
        found.iter().filter(|word| word.starts_with(last)).fold(String::new(), |text, word| text + word + "\n");
    print(&(text + NO_FILES))?;
    Ok(0)
}

/// What may follow these words; none where the name of a `CoderUpgrade` does.
fn candidates(last: &str, before: &[String], whole: &Command) -> Option<Vec<String>> {
    let Some(command) = before.iter().find_map(|word| whole.find_subcommand(word)) else {
        let shown = whole.get_subcommands().filter(|command| !command.is_hide_set());
        return Some(shown.map(|command| command.get_name().to_owned()).collect());
    };
    if last.starts_with('-') {
        let flags = command.get_arguments().filter_map(Arg::get_long);
        return Some(flags.map(|flag| format!("--{flag}")).collect());
    }
    let named = |argument: &&Arg, word: &str| {
        argument.get_long().is_some_and(|long| word == format!("--{long}"))
            || argument.get_short().is_some_and(|short| word == format!("-{short}"))
    };
    let flag = before.last().and_then(|word| command.get_arguments().find(|argument| named(argument, word)));
    if let Some(flag) = flag.filter(|flag| flag.get_action().takes_values()) {
        return Some(flag.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect());
    }
    let mut positional = command.get_positionals();
    match positional.next() {
        Some(argument) if argument.get_id() == "name" => None,
        Some(argument) => {
            Some(argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect())
        }
        None => Some(Vec::new()),
    }
}

/// The names of the `CoderUpgrades` in the cluster and namespace that the flags before say.
async fn names(before: &[String], whole: &Command) -> Result<Vec<String>, PluginError> {
    // The line is not finished: what it lacks does not matter yet.
    let command = whole.clone().no_binary_name(true).ignore_errors(true);
    let Ok(line) = command.try_get_matches_from(before) else { return Ok(Vec::new()) };
    let Some((_, flags)) = line.subcommand() else { return Ok(Vec::new()) };
    let Ok(flags) = SessionArgs::from_arg_matches(flags) else { return Ok(Vec::new()) };
    let session = Session::open(&flags, "").await?;
    Ok(session.upgrades(false).await?.iter().map(ResourceExt::name_any).collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::cli::Cli;

    #[rstest]
    #[case::command("st", &[], &["status"])]
    #[case::flag("--w", &["status"], &["--watch"])]
    #[case::value("", &["history", "coder", "-o"], &["text", "json", "yaml"])]
    #[case::free_value("", &["status", "-n"], &[])]
    #[case::shell("", &["completion"], &["bash", "elvish", "fish", "powershell", "zsh"])]
    fn what_may_follow_is_found(#[case] last: &str, #[case] before: &[&str], #[case] wanted: &[&str]) {
        let before: Vec<String> = before.iter().map(ToString::to_string).collect();
        let whole = Cli::under("kubectl coder-upgrade");
        let mut found = candidates(last, &before, &whole).unwrap();
        found.retain(|word| word.starts_with(last));
        assert_eq!(found, wanted);
        assert_eq!(candidates("", &["status".to_owned()], &whole), None, "the name of a CoderUpgrade");
        let commands = candidates("", &[], &whole).unwrap();
        assert!(!commands.contains(&"runner".to_owned()), "{commands:?}");
    }
}
