//! What becomes of a request that helm makes during a rehearsal: it is passed on as it is, made a dry run, or refused.

use crate::core::object::is_built_in;
use form_urlencoded::{Serializer, parse};
use serde_json::{Value, json};

use crate::core::rights::Right;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPolicy {
    /// It changes nothing: it is passed on as it is.
    Pass,
    /// It is passed on as a dry run.
    DryRun,
    /// It could change something whatever is added to it. The text says why it is refused.
    Refuse(&'static str),
}

/// What a path of the API names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiPath<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Version of the group.
    pub version: &'a str,
    /// Namespace, if the object lies in one.
    pub namespace: Option<&'a str>,
    /// Plural name of the kind.
    pub resource: &'a str,
    /// Name of the object; none for the collection.
    pub name: Option<&'a str>,
    /// Part of the object that is meant.
    pub subresource: Option<&'a str>,
}

/// Parts of objects that are no data: who opens one acts at once, even by a GET.
const CONNECTIONS: [&str; 4] = ["attach", "exec", "portforward", "proxy"];

/// Parts of a Namespace, which stand where for all others the kind of an object in it stands.
const NAMESPACE_PARTS: [&str; 2] = ["finalize", "status"];

impl<'a> ApiPath<'a> {
    /// Reads a path; none if it names neither an object nor a collection, or does so in an unusual way.
    pub fn parse(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if parts.iter().any(|part| part.is_empty() || part.starts_with('.') || part.contains('%')) {
            return None;
        }
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, part, ..] if !NAMESPACE_PARTS.contains(part) => (Some(*namespace), &rest[2..]),
            _ => (None, rest),
        };
        let (resource, name, subresource) = match rest {
            [resource] => (*resource, None, None),
            [resource, name] => (*resource, Some(*name), None),
            [resource, name, subresource] => (*resource, Some(*name), Some(*subresource)),
            _ => return None,
        };
        Some(Self { group, version, namespace, resource, name, subresource })
    }

    /// Whether the API server itself serves it. Others might not know dry runs.
    pub fn is_built_in(&self) -> bool {
        is_built_in(self.group)
    }

    /// Whether the description of its group (`OpenAPI` v3) says that this method knows dry runs.
    pub fn declares_dry_run(&self, method: &str, description: &Value) -> bool {
        let namespace = self.namespace.map(|_| "/namespaces/{namespace}").unwrap_or_default();
        let name = self.name.map(|_| "/{name}").unwrap_or_default();
        let part = self.subresource.map(|part| format!("/{part}")).unwrap_or_default();
        let path = format!("/apis/{}/{}{namespace}/{}{name}{part}", self.group, self.version, self.resource);
        let operation = &description["paths"][&path][method.to_ascii_lowercase()];
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        parameters.iter().any(|parameter| parameter["name"] == "dryRun")
    }

    /// A question to the API server in the form of an object that is created: nothing is kept of it.
    fn is_review(&self) -> bool {
        matches!(self.group, "authentication.k8s.io" | "authorization.k8s.io") && self.resource.ends_with("reviews")
    }
}

/// What becomes of a request with this method (in capitals), path and query.
pub fn policy(method: &str, path: &str, query: &str) -> RequestPolicy {
    let target = ApiPath::parse(path);
    let connects = path.split('/').any(|part| CONNECTIONS.contains(&part));
    if connects && target.is_none_or(|target| target.subresource.is_some()) {
        return RequestPolicy::Refuse("a rehearsal opens no connection into the cluster");
    }
    match (method, target) {
        ("GET" | "HEAD", _) if watches(query) => RequestPolicy::Refuse("a rehearsal waits for nothing"),
        ("GET" | "HEAD", _) => RequestPolicy::Pass,
        ("POST", Some(target)) if target.is_review() => RequestPolicy::Pass,
        ("POST" | "DELETE", Some(ApiPath { subresource: None, .. })) => RequestPolicy::DryRun,
        ("PUT" | "PATCH", Some(ApiPath { name: Some(_), subresource: None | Some("scale" | "status"), .. })) => {
            RequestPolicy::DryRun
        }
        _ => RequestPolicy::Refuse("this request cannot be made a dry run"),
    }
}

/// The right that a request takes, and the namespace in which; none for the whole cluster. What is read by its name takes the
/// right to that one. Everybody may ask what APIs there are.
pub fn right(method: &str, path: &str, query: &str) -> Option<(Option<String>, Right)> {
    let target = ApiPath::parse(path).filter(|target| !target.is_review())?;
    let verb = match (method, target.name) {
        ("GET" | "HEAD", Some(_)) => "get",
        ("GET" | "HEAD", None) if watches(query) => "watch",
        ("GET" | "HEAD", None) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", Some(_)) => "delete",
        ("DELETE", None) => "deletecollection",
        _ => return None,
    };
    let part = target.subresource.map(|part| format!("/{part}")).unwrap_or_default();
    let right = Right::new(target.group, &format!("{}{part}", target.resource), verb);
    // Whoever looks up one Secret needs no other.
    let right = Right { name: target.name.filter(|_| verb == "get").map(ToOwned::to_owned), ..right };
    Some((target.namespace.map(ToOwned::to_owned), right))
}

/// The query with which a write is a dry run. `force` takes fields from other managers, as the repair before it would.
pub fn dry_run(query: &str, force: bool) -> String {
    let kept = parse(query.as_bytes()).filter(|(key, _)| key != "dryRun" && !(force && key == "force"));
    let mut query = Serializer::new(String::new());
    query.extend_pairs(kept).append_pair("dryRun", "All");
    if force {
        query.append_pair("force", "true");
    }
    query.finish()
}

/// The body of a DELETE as a dry run: the API server heeds no query where there is a body. None if it cannot be read, and
/// the request must not be passed on.
pub fn dry_run_options(body: &[u8]) -> Option<Vec<u8>> {
    if body.is_empty() {
        return Some(Vec::new());
    }
    let mut options: Value = serde_json::from_slice(body).ok()?;
    options.as_object_mut()?.insert("dryRun".into(), json!(["All"]));
    Some(options.to_string().into_bytes())
}

/// What may be accepted as an answer: JSON instead of protobuf, which this program does not read.
pub fn readable(accept: &str) -> String {
    let kept = accept.split(',').map(str::trim).filter(|kind| !kind.starts_with("application/vnd.kubernetes.protobuf"));
    let kept: Vec<&str> = kept.filter(|kind| !kind.is_empty()).collect();
    if kept.is_empty() { "application/json".into() } else { kept.join(",") }
}

/// Whether labels are selected by a query for them; none if the query is of another form than helm's, `key=value,…`.
pub fn selects(selector: &str, labels: &Value) -> Option<bool> {
    let mut all = true;
    for requirement in selector.split(',').filter(|requirement| !requirement.is_empty()) {
        let (key, value) = requirement.split_once('=')?;
        if key.ends_with('!') || key.contains([' ', '(']) {
            return None;
        }
        all &= labels[key] == value.trim_start_matches('=');
    }
    Some(all)
}

/// The value of a key of a query, decoded.
pub fn parameter(query: &str, wanted: &str) -> Option<String> {
    parse(query.as_bytes()).find(|(key, _)| key == wanted).map(|(_, value)| value.into_owned())
}

/// Whether a query asks for a watch.
fn watches(query: &str) -> bool {
    parse(query.as_bytes()).any(|(key, value)| key == "watch" && !matches!(&*value, "0" | "false"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/coder/deployments/coder";

    #[rstest]
    #[case::read("GET", DEPLOYMENT, "", RequestPolicy::Pass)]
    #[case::discovery("GET", "/apis", "", RequestPolicy::Pass)]
    #[case::version("GET", "/version", "", RequestPolicy::Pass)]
    #[case::schema("GET", "/openapi/v3/apis/apps/v1", "hash=1", RequestPolicy::Pass)]
    #[case::patch("PATCH", DEPLOYMENT, "fieldManager=helm", RequestPolicy::DryRun)]
    #[case::put("PUT", DEPLOYMENT, "", RequestPolicy::DryRun)]
    #[case::delete("DELETE", DEPLOYMENT, "", RequestPolicy::DryRun)]
    #[case::create("POST", "/api/v1/namespaces/coder/secrets", "", RequestPolicy::DryRun)]
    #[case::create_namespace("POST", "/api/v1/namespaces", "", RequestPolicy::DryRun)]
    #[case::scale("PATCH", "/apis/apps/v1/namespaces/coder/deployments/coder/scale", "", RequestPolicy::DryRun)]
    #[case::namespace("PATCH", "/api/v1/namespaces/coder/status", "", RequestPolicy::DryRun)]
    #[case::pod_called_proxy("PATCH", "/api/v1/namespaces/coder/pods/proxy", "", RequestPolicy::DryRun)]
    #[case::review("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", RequestPolicy::Pass)]
    fn what_changes_nothing_or_can_be_a_dry_run_goes_through(
        #[case] method: &str,
        #[case] path: &str,
        #[case] query: &str,
        #[case] expected: RequestPolicy,
    ) {
        assert_eq!(policy(method, path, query), expected);
    }

    #[rstest]
    #[case::exec("POST", "/api/v1/namespaces/coder/pods/coder-0/exec")]
    #[case::exec_by_get("GET", "/api/v1/namespaces/coder/pods/coder-0/exec")]
    #[case::proxy_by_get("GET", "/api/v1/namespaces/coder/services/coder/proxy/api/v2/users")]
    #[case::eviction("POST", "/api/v1/namespaces/coder/pods/coder-0/eviction")]
    #[case::token("POST", "/api/v1/namespaces/coder/serviceaccounts/coder/token")]
    #[case::hidden("POST", "/api/v1/namespaces/coder/pods/coder-0/e%78ec")]
    #[case::dots("DELETE", "/api/v1/namespaces/coder/pods/../secrets/x")]
    #[case::double("DELETE", "/api/v1/namespaces/coder//pods")]
    #[case::no_object("POST", "/logs")]
    #[case::put_collection("PUT", "/api/v1/namespaces/coder/pods")]
    #[case::unknown_method("CONNECT", "/api/v1/namespaces/coder/pods/coder-0")]
    fn what_cannot_be_a_dry_run_is_refused(#[case] method: &str, #[case] path: &str) {
        assert!(matches!(policy(method, path, "dryRun=All"), RequestPolicy::Refuse(_)), "{method} {path}");
    }

    #[rstest]
    #[case("GET", DEPLOYMENT, "", Some((Some("coder"), "apps", "deployments", "get")))]
    #[case("GET", "/api/v1/nodes", "limit=5", Some((None, "", "nodes", "list")))]
    #[case("GET", "/api/v1/namespaces/lab/pods", "watch=true", Some((Some("lab"), "", "pods", "watch")))]
    #[case("GET", "/api/v1/namespaces/lab", "", Some((None, "", "namespaces", "get")))]
    #[case("PATCH", "/apis/apps/v1/namespaces/coder/deployments/coder/scale", "", Some((Some("coder"), "apps", "deployments/scale", "patch")))]
    #[case("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", None)]
    #[case("GET", "/apis/apps/v1", "", None)]
    #[case("GET", "/version", "", None)]
    fn a_request_takes_a_right(
        #[case] method: &str,
        #[case] path: &str,
        #[case] query: &str,
        #[case] expected: Option<(Option<&str>, &str, &str, &str)>,
    ) {
        let expected = expected.map(|(namespace, group, resource, verb)| {
            let name = path.rsplit('/').next().filter(|_| verb == "get").map(ToOwned::to_owned);
            (namespace.map(ToOwned::to_owned), Right { name, ..Right::new(group, resource, verb) })
        });
        assert_eq!(right(method, path, query), expected);
    }

    #[test]
    fn a_watch_is_refused() {
        assert!(matches!(policy("GET", "/api/v1/pods", "watch=true"), RequestPolicy::Refuse(_)));
        assert_eq!(policy("GET", "/api/v1/pods", "watch=false"), RequestPolicy::Pass);
    }

    #[rstest]
    #[case("", false, "dryRun=All")]
    #[case("dryRun=All", false, "dryRun=All")]
    #[case("dryRun=&fieldManager=helm", false, "fieldManager=helm&dryRun=All")]
    #[case("dry%52un=&fieldManager=helm", false, "fieldManager=helm&dryRun=All")]
    #[case("fieldManager=helm&force=false", true, "fieldManager=helm&dryRun=All&force=true")]
    fn a_dry_run_is_asked_for_once(#[case] query: &str, #[case] force: bool, #[case] expected: &str) {
        assert_eq!(dry_run(query, force), expected);
    }

    #[test]
    fn the_options_of_a_deletion_keep_their_preconditions() {
        let options = json!({"kind": "DeleteOptions", "preconditions": {"uid": "u"}, "dryRun": []});
        let changed: Value = serde_json::from_slice(&dry_run_options(options.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(changed, json!({"kind": "DeleteOptions", "preconditions": {"uid": "u"}, "dryRun": ["All"]}));
        assert_eq!(dry_run_options(b""), Some(Vec::new()));
        for unreadable in [&b"k8s\0\x0a"[..], b"[]", b"\"text\""] {
            assert_eq!(dry_run_options(unreadable), None);
        }
    }

    #[rstest]
    #[case("application/vnd.kubernetes.protobuf,application/json", "application/json")]
    #[case("application/vnd.kubernetes.protobuf", "application/json")]
    #[case("", "application/json")]
    #[case(
        "application/json;as=Table;v=v1;g=meta.k8s.io, application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    )]
    #[case(
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
    )]
    fn objects_are_asked_for_as_json(#[case] accept: &str, #[case] expected: &str) {
        assert_eq!(readable(accept), expected);
    }

    #[test]
    fn records_are_selected_by_their_labels() {
        let labels = json!({"owner": "helm", "name": "coder", "status": "deployed"});
        assert_eq!(selects("", &labels), Some(true));
        assert_eq!(selects("name=coder,owner==helm", &labels), Some(true));
        assert_eq!(selects("name=coder,owner=helm,status=failed", &labels), Some(false));
        assert_eq!(selects("name in (coder)", &labels), None);
        assert_eq!(selects("name!=coder", &labels), None);
        assert_eq!(
            parameter("limit=5&labelSelector=name%3Dcoder%2Cowner%3Dhelm", "labelSelector").as_deref(),
            Some("name=coder,owner=helm")
        );
        assert_eq!(parameter("limit=5", "labelSelector"), None);
    }

    #[test]
    fn another_server_must_say_that_it_knows_dry_runs() {
        let target = ApiPath::parse("/apis/example.com/v1/namespaces/coder/workspaces/a").unwrap();
        assert!(!target.is_built_in());
        let path = "/apis/example.com/v1/namespaces/{namespace}/workspaces/{name}";
        let description = json!({"paths": {path: {"patch": {"parameters": [{"name": "dryRun"}]}, "put": {}}}});
        assert!(target.declares_dry_run("PATCH", &description));
        assert!(!target.declares_dry_run("PUT", &description));
        assert!(!target.declares_dry_run("DELETE", &Value::Null));
    }
}
