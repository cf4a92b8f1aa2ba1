//! Counts the requests of a client, by what they ask for. Names of objects and namespaces are left aside.

use std::task::{Context as TaskContext, Poll};

use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use tower::{Layer, Service};

use super::labels::OfRequest;
use super::operator::OwnMetrics;

/// What the controller may ask for: the resources of its rights.
const RESOURCES: [&str; 12] = [
    "coderupgrades",
    "coderupgrades/status",
    "daemonsets",
    "deployments",
    "events",
    "ingresses",
    "jobs",
    "leases",
    "persistentvolumeclaims",
    "pods",
    "services",
    "statefulsets",
];

/// Has a client counted.
#[derive(Clone)]
pub struct CountRequests(pub OwnMetrics);

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, client: S) -> Counted<S> {
        Counted { client, metrics: self.0.clone() }
    }
}

/// A client whose requests are counted.
pub struct Counted<S> {
    client: S,
    metrics: OwnMetrics,
}

impl<S, B, A> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.client.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (verb, resource) = asked(request.method(), request.uri().path(), request.uri().query());
        let (metrics, answer) = (self.metrics.clone(), self.client.call(request));
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or("none", |answer| class(answer.status()));
            metrics.asked(&OfRequest { verb, resource, code });
            answer
        })
    }
}

fn class(code: StatusCode) -> &'static str {
    match code.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// The verb and the resource of a request, as rights name them.
fn asked(method: &Method, path: &str, query: Option<&str>) -> (&'static str, &'static str) {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // The group is left aside, too: no two of the resources have the same name.
    let before = if parts.first() == Some(&"apis") { 3 } else { 2 };
    let mut parts = parts.get(before..).unwrap_or_default();
    if let ["namespaces", _, inside @ ..] = parts
        && !inside.is_empty()
    {
        parts = inside;
    }
    let named = parts.len() > 1;
    let resource = RESOURCES.into_iter().find(|resource| match resource.split_once('/') {
        None => parts.len() < 3 && parts.first() == Some(resource),
        Some((whole, part)) => parts.first() == Some(&whole) && parts.get(2) == Some(&part),
    });
    let watches = query.is_some_and(|query| query.split('&').any(|flag| flag == "watch=true"));
    let verb = match *method {
        Method::GET if watches => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource.unwrap_or("other"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_request_is_known_by_its_verb_and_its_resource() {
        let upgrades = "/apis/coderupgrade.dev/v1alpha1/namespaces/jobs/coderupgrades";
        for (method, path, query, asks) in [
            (Method::GET, "/api/v1/pods".to_owned(), Some("limit=500&labelSelector=a"), ("list", "pods")),
            (Method::GET, "/api/v1/namespaces/coder/pods".into(), Some("watch=true&limit=1"), ("watch", "pods")),
            (Method::GET, format!("{upgrades}/pods"), None, ("get", "coderupgrades")),
            (Method::PUT, format!("{upgrades}/coder/status"), Some(""), ("update", "coderupgrades/status")),
            (Method::POST, "/apis/batch/v1/namespaces/coder/jobs".into(), None, ("create", "jobs")),
            (Method::PATCH, "/apis/batch/v1/namespaces/coder/jobs/a".into(), None, ("patch", "jobs")),
            (Method::DELETE, "/apis/batch/v1/namespaces/coder/jobs/a".into(), None, ("delete", "jobs")),
            (Method::GET, "/api/v1/namespaces/coder".into(), None, ("get", "other")),
            (Method::GET, "/api/v1/namespaces/coder/pods/a/log".into(), None, ("get", "other")),
            (Method::GET, "/version".into(), None, ("list", "other")),
        ] {
            assert_eq!(asked(&method, &path, query), asks, "{method} {path}");
        }
    }

    /// Otherwise requests that the controller makes would be told as others.
    #[test]
    fn the_resources_are_those_of_the_rights() {
        let rights = concat!(
            include_str!("../../../deploy/controller/cluster-role.yaml"),
            include_str!("../../../deploy/controller/leader-election.yaml")
        );
        let lists = rights.lines().filter_map(|line| line.split_once("resources: [")?.1.strip_suffix(']'));
        let granted: BTreeSet<_> = lists.flat_map(|list| list.split(", ")).collect();
        assert_eq!(granted, BTreeSet::from(RESOURCES));
    }
}
