//! Watches of objects, until something is so.

use std::fmt::{Debug, Display};
use std::pin::pin;

use futures::TryStreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::core::object::KindName;
use crate::runner::error::Error;

/// Watches an object until it is as wanted; none if it does not exist. A watch that breaks begins again by itself:
/// there is no limit but the caller's.
pub async fn until<K>(api: Api<K>, object: &KindName, mut wanted: impl FnMut(Option<&K>) -> bool) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut states = pin!(watch_object(api, &object.name).default_backoff());
    loop {
        match states.try_next().await {
            Ok(Some(state)) if wanted(state.as_ref()) => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) => return Err(ended(object)),
            Err(error) => broken(object, error)?,
        }
    }
}

/// A watch of kube never ends by itself.
pub fn ended(object: impl Display) -> Error {
    Error::Bug(format!("the watch of {object} has ended"))
}

/// A watch has broken. It begins again by itself, but no patience brings a right that is missing.
pub fn broken(object: impl Display, error: watcher::Error) -> Result<(), Error> {
    match error {
        watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source) if matches!(&source, kube::Error::Api(status) if status.is_forbidden()) => {
            Err(Error::api(format!("watch {object}"), source))
        }
        error => {
            tracing::debug!("the watch of {object} has broken: {error}");
            Ok(())
        }
    }
}
