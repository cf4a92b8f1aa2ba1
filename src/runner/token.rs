//! The session token of an owner of Coder. It is sent to pods of the release and to nobody else.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::context::{Context, request};
use super::error::Error;
use crate::api::{DataRef, FailureClass};
use crate::core::report::Problem;

/// The field of the spec that names the token.
const FIELD: &str = "spec.verify.tokenSecret";

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
        let value = value.map(|bytes| String::from_utf8_lossy(&bytes.0).trim().to_owned());
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            let what = if exists { format!("has nothing in its key {key}") } else { "does not exist".to_owned() };
            let message = format!("{object}, which {FIELD} names, {what}");
            return Err(Problem::new(FailureClass::ReferenceMissing, message).object(object).field(FIELD).into());
        };
        ctx.secrets.hide([value.clone()]);
        Ok(Self { value, object })
    }

    /// The token itself.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Coder does not take the token. `who` is the pod, `how` what it answered.
    #[must_use]
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
