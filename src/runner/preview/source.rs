//! Where the declaration comes from, and whether the API server would accept it.

use std::io::Read;
use std::path::Path;

use kube::api::PostParams;
use kube::core::Request;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::Value;

use super::error::PreviewError;
use crate::api::CoderUpgrade;
use crate::core::helm::manifest;
use crate::core::helm::manifest::ManifestError;
use crate::runner::context::request;
use crate::runner::error::Error;

/// Longest file, in bytes: more than the API server would take of all its objects together.
const LONGEST: u64 = 8 << 20;

/// Reads the one `CoderUpgrade` of a file, or the one of that name.
pub fn read(file: &Path, name: Option<&str>) -> Result<Value, PreviewError> {
    let shown = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let text = if file == Path::new("-") { text(std::io::stdin()) } else { std::fs::File::open(file).and_then(text) };
    let text = text.map_err(|source| PreviewError::Read { file: shown.clone(), source })?;
    let objects = manifest::objects(&text).map_err(|error| {
        let text = match error {
            ManifestError::Document(unread) => unread.why.to_string(),
            other => other.to_string(),
        };
        PreviewError::Yaml { file: shown.clone(), text }
    })?;
    choose(objects, name).map_err(|what| PreviewError::Content { file: shown, what })
}

/// All that can be read there, if it is not more than any declaration.
fn text(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(LONGEST + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= LONGEST) {
        return Ok(text);
    }
    Err(std::io::Error::other(format!("it is longer than {} MiB", LONGEST >> 20)))
}

/// The `CoderUpgrade` among the objects of a file. The error ends a sentence that begins with the file.
fn choose(objects: Vec<Value>, name: Option<&str>) -> Result<Value, String> {
    let named = |object: &Value| object["metadata"]["name"].as_str().unwrap_or("(without a name)").to_owned();
    let kinds: Vec<String> = objects.iter().filter_map(|object| object["kind"].as_str().map(Into::into)).collect();
    let mut found: Vec<Value> =
        objects.into_iter().filter(|object| object["kind"] == *CoderUpgrade::kind(&())).collect();
    if found.is_empty() {
        let instead = if kinds.is_empty() { "no object of a kind".to_owned() } else { kinds.join(", ") };
        return Err(format!("holds no CoderUpgrade, but {instead}"));
    }
    let all = found.iter().map(named).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        found.retain(|object| object["metadata"]["name"] == name);
    }
    match (found.pop(), found.as_slice()) {
        (None, _) => Err(format!("holds no CoderUpgrade {}, but {all}", name.unwrap_or_default())),
        (Some(_), [_, ..]) => Err(format!("holds several CoderUpgrades ({all}): give the name of one before --file")),
        (Some(object), []) => check(object),
    }
}

fn check(object: Value) -> Result<Value, String> {
    let wanted = CoderUpgrade::api_version(&());
    if object["apiVersion"] != *wanted {
        return Err(format!("holds a CoderUpgrade of the apiVersion {}; it must be {wanted}", object["apiVersion"]));
    }
    match object["metadata"]["name"].as_str() {
        Some(name) if !name.is_empty() => Ok(object),
        _ => Err("holds a CoderUpgrade without metadata.name".into()),
    }
}

/// The object of that name in the cluster.
pub async fn installed(client: &Client, namespace: &str, name: &str) -> Result<CoderUpgrade, PreviewError> {
    let upgrades: Api<CoderUpgrade> = Api::namespaced(client.clone(), namespace);
    match request(&format!("read CoderUpgrade/{name} in namespace {namespace}"), || upgrades.get(name)).await {
        Err(Error::Api { source, .. }) if is_absent(&source, name) => {
            Err(PreviewError::Absent { name: name.to_owned(), namespace: namespace.to_owned() })
        }
        found => Ok(found?),
    }
}

/// Whether the API server knows the kind, and no object of that name.
fn is_absent(error: &kube::Error, name: &str) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.is_not_found() && status.details.as_ref().is_some_and(|details| details.name == name)
}

/// The object as the API server would store it in the place of the one that is there: with its defaults, after its rules.
/// If the cluster does not know the kind, or may not be asked, its fields alone are checked, and a note says so.
pub async fn declared(
    client: &Client,
    namespace: &str,
    object: &Value,
) -> Result<(CoderUpgrade, Option<String>), PreviewError> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let upgrades: Api<CoderUpgrade> = Api::namespaced(client.clone(), namespace);
    let doing = format!("ask for CoderUpgrade/{name} in namespace {namespace}");
    let live = match request(&doing, || upgrades.get_opt(&name)).await {
        Ok(live) => live,
        Err(error) if error.has_code(403) => None,
        Err(error) => return Err(error.into()),
    };
    match dry_run(client, namespace, &body(object, namespace, live.as_ref()), live.is_some()).await {
        Ok(upgrade) => {
            let status = live.and_then(|live| live.status);
            // A dry run is of the object without its status.
            Ok((CoderUpgrade { status, ..upgrade }, None))
        }
        Err(kube::Error::Api(status)) if status.code == 404 && status.message.contains("namespaces") => {
            Err(Error::api(doing, kube::Error::Api(status)).into())
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            let why =
                if status.code == 404 { "does not know the kind CoderUpgrade" } else { "does not let you try it" };
            let note =
                format!("the API server {why}: the rules of the CoderUpgrade were not checked ({})", status.message);
            Ok((parse(object, &name)?, Some(note)))
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
            Err(PreviewError::Invalid { name, text: status.message.clone() })
        }
        Err(error) => Err(Error::api(format!("try CoderUpgrade/{name}"), error).into()),
    }
}

/// What is sent: the file's object, with what an update of a live one needs.
fn body(object: &Value, namespace: &str, live: Option<&CoderUpgrade>) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["managedFields", "uid", "resourceVersion", "generation", "creationTimestamp"] {
            metadata.remove(field);
        }
        metadata.insert("namespace".into(), namespace.into());
        if let Some(live) = live {
            metadata.insert("resourceVersion".into(), live.resource_version().into());
            let mut annotations = serde_json::json!(live.annotations());
            if let (Some(all), Some(own)) =
                (annotations.as_object_mut(), metadata.get("annotations").and_then(Value::as_object))
            {
                all.extend(own.clone());
            }
            metadata.insert("annotations".into(), annotations);
        }
    }
    object
}

/// Has the API server check the object. Unknown fields are an error, as for kubectl.
async fn dry_run(client: &Client, namespace: &str, body: &Value, exists: bool) -> kube::Result<CoderUpgrade> {
    let requests = Request::new(CoderUpgrade::url_path(&(), Some(namespace)));
    let parameters = PostParams { dry_run: true, field_manager: None };
    let data = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    let request = if exists { requests.replace(name, &parameters, data) } else { requests.create(&parameters, data) };
    let mut request = request.map_err(kube::Error::BuildRequest)?;
    let strict = format!("{}&fieldValidation=Strict", request.uri());
    if let Ok(uri) = strict.parse() {
        *request.uri_mut() = uri;
    }
    client.request(request).await
}

/// The object without the help of an API server.
fn parse(object: &Value, name: &str) -> Result<CoderUpgrade, PreviewError> {
    serde_path_to_error::deserialize(object).map_err(|error| PreviewError::Invalid {
        name: name.to_owned(),
        text: format!("{}: {}", error.path(), error.inner()),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn upgrade(name: &str) -> Value {
        json!({"apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": name}, "spec": {}})
    }

    #[rstest]
    #[case::nothing(vec![], None, "holds no CoderUpgrade, but no object of a kind")]
    #[case::another_kind(vec![json!({"kind": "Secret"})], None, "holds no CoderUpgrade, but Secret")]
    #[case::several(vec![upgrade("a"), upgrade("b")], None, "holds several CoderUpgrades (a, b): give the name of one before --file")]
    #[case::another_name(vec![upgrade("a")], Some("b"), "holds no CoderUpgrade b, but a")]
    #[case::no_name(vec![json!({"apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade"})], None, "holds a CoderUpgrade without metadata.name")]
    #[case::old(vec![json!({"apiVersion": "coderupgrade.dev/v1", "kind": "CoderUpgrade"})], None, "holds a CoderUpgrade of the apiVersion \"coderupgrade.dev/v1\"; it must be coderupgrade.dev/v1alpha1")]
    fn a_file_without_the_one_object_says_what_it_holds(
        #[case] objects: Vec<Value>,
        #[case] name: Option<&str>,
        #[case] what: &str,
    ) {
        assert_eq!(choose(objects, name).unwrap_err(), what);
    }

    #[test]
    fn the_one_of_the_name_is_chosen() {
        assert_eq!(choose(vec![upgrade("a"), upgrade("b")], Some("b")).unwrap(), upgrade("b"));
        assert_eq!(choose(vec![json!({"kind": "Secret"}), upgrade("a")], None).unwrap(), upgrade("a"));
    }

    #[rstest]
    #[case(json!({"verison": "2.31.7"}), "spec.verison: unknown field `verison`")]
    #[case(json!({"overrides": ["Nonsense"]}), "spec.overrides[0]: unknown variant `Nonsense`")]
    #[case(json!({"values": ["a"]}), "spec.values: invalid type")]
    fn a_field_that_is_wrong_is_named_without_an_api_server(#[case] spec: Value, #[case] words: &str) {
        let mut object = upgrade("a");
        object["spec"] = spec;
        let text = parse(&object, "a").unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
}
