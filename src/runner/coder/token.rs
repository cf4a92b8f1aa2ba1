//! The session token of an owner of Coder. It is sent to pods of the release and to nobody else.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::api::{DataRef, FailureClass};
use crate::core::report::Problem;
use crate::core::text::bounded;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// The field of the spec that names the token.
const FIELD: &str = "spec.verify.tokenSecretKeyRef";

/// Longest token or password, in bytes.
const LONGEST: usize = 16 * 1024;

/// A token or a password as it is sent: one line of text. Anything else would end up in a header, or in an argument of a
/// program, as something else than it is. The error is the end of a sentence that begins with where it lies.
pub fn credential(bytes: &[u8]) -> Result<String, String> {
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    let bytes = &bytes[..end];
    if bytes.len() > LONGEST {
        return Err(format!("takes more than {}", bounded::size(LONGEST)));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is no text".to_owned())?;
    if text.chars().any(char::is_control) {
        return Err("holds more than one line of text, or control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// The token, and where it comes from.
pub struct Token {
    value: String,
    object: String,
}

impl Token {
    /// Reads the token. It is hidden from then on.
    pub async fn read(ctx: &Context, reference: &DataRef) -> Result<Self, Error> {
        let DataRef { name, key } = reference;
        let object = format!("Secret/{name}");
        let secrets: Api<Secret> = ctx.api();
        let found = request(&format!("read {object}"), || secrets.get_opt(name)).await?;
        let exists = found.is_some();
        let value = found.and_then(|secret| secret.data?.remove(key));
        let value = value.filter(|bytes| !bytes.0.trim_ascii().is_empty());
        let Some(value) = value else {
            let what = if exists { format!("has nothing in its key {key}") } else { "does not exist".to_owned() };
            let message = format!("{object}, which {FIELD} names, {what}");
            return Err(Problem::new(FailureClass::ReferenceMissing, message).object(object).field(FIELD).into());
        };
        let value = credential(value.0.trim_ascii()).map_err(|why| {
            let message = format!("{object} key {key}, which {FIELD} names, {why}");
            Problem::new(FailureClass::SpecInvalid, message).object(&object).field(FIELD)
        })?;
        ctx.secrets.hide([value.clone()]);
        Ok(Self { value, object })
    }

    /// The token itself.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Coder does not take the token. `who` is the pod, `how` what it answered.
    pub fn refused(&self, who: &str, how: &str) -> Problem {
        let message = format!(
            "Pod/{who} {how} with the token in {}: it must be the session token of an owner that has not run out. Put \
             such a token there (coder tokens create), or remove {FIELD}; then set the annotation \
             coderupgrade.dev/requested-at to a new value",
            self.object
        );
        Problem::new(FailureClass::SpecInvalid, message).object(&self.object).field(FIELD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_of_text_is_sent() {
        assert_eq!(credential(b" token-1234567890 \r\n").unwrap(), " token-1234567890 ");
        assert_eq!(credential("pässword with spaces".as_bytes()).unwrap(), "pässword with spaces");
        for (bytes, why) in [
            (&b"token\r\nHost: elsewhere"[..], "holds more than one line"),
            (b"tok\0en", "control characters"),
            (b"\xff\xfe\x00", "is no text"),
            (&vec![b'x'; LONGEST + 1], "takes more than 16 KiB"),
        ] {
            let error = credential(bytes).unwrap_err();
            assert!(error.contains(why) && !error.contains("tok"), "{error}");
        }
    }
}
