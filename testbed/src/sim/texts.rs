//! What coderd of Coder v2 writes when it starts and ends, as measured on Coder 2.30.0 and 2.31.7.

use std::net::IpAddr;

use super::settings::Settings;

/// The first line of what it ends for; the second begins with `error:`.
pub(super) const FATAL: &str =
    "Encountered an error running \"coder server\", see \"coder server --help\" for more information";

/// The last line after SIGTERM.
pub(super) const STOPPED: &str =
    "Stop caught, waiting for provisioner jobs to complete and gracefully exiting. Use ctrl+\\ to force quit";

/// The first line of all, whatever is set.
pub(super) fn deprecated() {
    eprintln!("WARN: `CODER_TELEMETRY` is deprecated, please use `CODER_TELEMETRY_ENABLE` instead.\n\r");
}

/// What follows the opened listener, before the database is connected: the address in a box, underlined though nobody has a
/// terminal, and with some of the line ends of one.
pub(super) fn web_ui(settings: &Settings) {
    let url = settings.get("CODER_ACCESS_URL").map_or_else(|| format!("http://{}", settings.listen), str::to_owned);
    let host = reqwest::Url::parse(&url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let why = if host == "localhost" || host.parse::<IpAddr>().is_ok() {
        "isn't externally reachable"
    } else {
        "could not be resolved"
    };
    eprintln!(
        "WARN: The access URL  {url}  {why}, this may cause unexpected problems when creating workspaces. Generate a unique \
         *.try.coder.app URL by not specifying an access URL.\n\r"
    );
    let width = url.chars().count().max(TITLE.len()) + 6;
    let (left, right) = ((width - TITLE.len()) / 2, (width - TITLE.len()).div_ceil(2));
    let line = "═".repeat(width);
    println!("╔{line}╗");
    println!("║{}{TITLE}{}║", " ".repeat(left), " ".repeat(right));
    println!("║   \u{1b}[4m{url}\u{1b}[0m{}   ║", " ".repeat(width - 6 - url.chars().count()));
    println!("╚{line}╝\r");
}

/// The title of the box.
const TITLE: &str = "View the Web UI:";

/// What it says when it is past its database: the only sign of that in its log.
pub(super) fn started(settings: &Settings) {
    let docs = format!("https://coder.com/docs/@v{}/admin/setup/telemetry", settings.version);
    super::log("warn", &format!("telemetry disabled, unable to notify of security issues. Read more: {docs}"));
    let id = "0c1c3a1e-6a0f-4a53-8f5b-5f2f1f5b7c11";
    super::log("info", &format!("notifications.manager.notifier: started  notifier_id={id}"));
    println!("\n==> Logs will stream in below (press ctrl+c to gracefully exit):\r");
}
