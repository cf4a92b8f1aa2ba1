//! Repositories that are broken or mean harm: each answers every request in one way, for ever.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;

/// How a repository answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::EnumString, strum::EnumIter)]
#[strum(serialize_all = "kebab-case")]
pub enum Hostility {
    /// An index that never ends, as fast as it is read.
    Endless,
    /// An index of which a byte comes every second.
    Slow,
    /// It accepts the request and never answers.
    Silent,
    /// A redirect to itself.
    Loop,
    /// A redirect to a file of the machine that asks.
    File,
    /// An index of a few hundred bytes that means a billion values.
    Laughs,
    /// An index that is nested too deeply for any reader.
    Deep,
    /// An index of a few hundred kilobytes on the way, and half a gigabyte when it is unpacked.
    Packed,
    /// Lists where maps are expected, and numbers where words are.
    Types,
    /// An index with a hundred thousand versions.
    Many,
}

/// Answers as the path says.
pub(super) async fn answer(Path((hostility, _)): Path<(String, String)>) -> Response {
    match hostility.parse() {
        Ok(hostility) => misbehave(hostility).await,
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn misbehave(hostility: Hostility) -> Response {
    match hostility {
        Hostility::Endless => {
            let chunk = Bytes::from("# more\n".repeat(10_000));
            Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone()))).into_response()
        }
        Hostility::Slow => {
            let bytes = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(b"#")), ()))
            });
            Body::from_stream(bytes).into_response()
        }
        Hostility::Silent => std::future::pending().await,
        Hostility::Loop => redirect("index.yaml"),
        Hostility::File => redirect("file:///etc/passwd"),
        Hostility::Laughs => laughs().into_response(),
        Hostility::Deep => {
            format!("apiVersion: v1\nentries: {}{}\n", "[".repeat(100_000), "]".repeat(100_000)).into_response()
        }
        Hostility::Packed => ([(header::CONTENT_ENCODING, "gzip")], packed()).into_response(),
        Hostility::Types => "apiVersion: [v1]\nentries: {coder: [7, {version: {}, urls: 3}, null]}\n".into_response(),
        Hostility::Many => many().into_response(),
    }
}

fn redirect(to: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, to.to_owned())]).into_response()
}

fn laughs() -> String {
    let mut index = "apiVersion: v1\nentries: {}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = vec![format!("*a{}", level - 1); 10].join(", ");
        // A String takes whatever is written to it.
        let _ = writeln!(index, "a{level}: &a{level} [{before}]");
    }
    index
}

fn packed() -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    let line = "# nothing at all, again and again\n".repeat(1 << 15);
    for _ in 0..512 {
        // Neither does a Vec refuse anything.
        let _ = packer.write_all(line.as_bytes());
    }
    packer.finish().unwrap_or_default()
}

fn many() -> String {
    let mut index = "apiVersion: v1\nentries:\n  coder:\n".to_owned();
    for patch in 0..100_000 {
        let _ = writeln!(
            index,
            "  - {{apiVersion: v2, name: coder, version: 2.31.{patch}, urls: [coder-{patch}.tgz], created: \"2026-01-01T00:00:00Z\"}}"
        );
    }
    index
}
