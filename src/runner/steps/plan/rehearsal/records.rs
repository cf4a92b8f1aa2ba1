//! helm's records during a rehearsal: read from the server and from the overlay, written to the overlay only.

use axum::http::{Method, StatusCode};
use serde_json::Value;
use serde_json::json;

use super::forward::{ProxiedRequest, ProxiedResponse, send};
use super::overlay::Over;
use super::state::{RehearsalState, no_dry_run, refused};
use crate::core::plan::rehearsal::request::{ApiPath, dry_run, parameter};

impl RehearsalState {
    /// Whether it is about Secrets in the namespace of the release, where helm's records lie.
    pub(super) fn holds_records(&self, target: &ApiPath<'_>) -> bool {
        let here = (target.group, target.resource, target.namespace);
        here == ("", "secrets", Some(self.namespace.as_str())) && target.subresource.is_none()
    }

    /// A record that is not as the server has it.
    pub(super) fn read_record(&self, name: &str) -> Option<ProxiedResponse> {
        match self.run().overlay.get(name) {
            Over::Nothing => None,
            Over::Deleted => Some(missing(name)),
            Over::Record(secret) => Some(ProxiedResponse::object(StatusCode::OK, secret)),
        }
    }

    /// A list of Secrets with helm's records as they would be.
    pub(super) fn merged(&self, asked: &ProxiedRequest, answer: ProxiedResponse) -> ProxiedResponse {
        let Some(mut list) = answer.json() else { return answer };
        let selector = parameter(asked.query(), "labelSelector").unwrap_or_default();
        match self.run().overlay.merge(&mut list, &selector) {
            Some(()) => ProxiedResponse::object(StatusCode::OK, &list),
            None => refused(asked, "the records of the release are selected in an unknown way"),
        }
    }

    /// A change to a record that exists, on the server or in the overlay.
    pub(super) async fn record(&self, asked: &ProxiedRequest, name: &str) -> ProxiedResponse {
        let (deleted, created) = {
            let run = self.run();
            (run.overlay.get(name) == Over::Deleted, run.overlay.is_created(name))
        };
        match asked.head.method {
            _ if deleted => return missing(name),
            Method::DELETE => {
                self.run().overlay.delete(name);
                let gone = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"});
                return ProxiedResponse::object(StatusCode::OK, &gone);
            }
            Method::PUT => {}
            _ => return refused(asked, "helm changes its records in another way than this program knows"),
        }
        // To learn the JSON of what helm writes: the server does not have the record that helm created a moment ago.
        let query = dry_run(asked.query(), false);
        let collection = asked.path().rsplit_once('/').map_or("", |(collection, _)| collection);
        let (method, path) = if created { (Method::POST, collection) } else { (Method::PUT, asked.path()) };
        let answer = send(&self.client, asked, &method, &format!("{path}?{query}"), asked.body.clone()).await;
        match answer.json().filter(|_| answer.status.is_success()) {
            Some(secret) => {
                self.run().overlay.put(secret.clone());
                ProxiedResponse::object(StatusCode::OK, &secret)
            }
            None => self.perhaps_blind(answer),
        }
    }

    /// A record that helm creates.
    pub(super) fn create_record(&self, name: &str, secret: &Value) -> ProxiedResponse {
        let mut run = self.run();
        if matches!(run.overlay.get(name), Over::Record(_)) {
            let message = format!("secrets \"{name}\" already exists");
            return ProxiedResponse::failure(StatusCode::CONFLICT, "AlreadyExists", &message);
        }
        run.overlay.create(secret.clone());
        ProxiedResponse::object(StatusCode::CREATED, secret)
    }

    /// Without helm's records nothing can be rehearsed.
    pub(super) fn perhaps_blind(&self, answer: ProxiedResponse) -> ProxiedResponse {
        if let Some(why) = no_dry_run(&answer) {
            self.run().seen.blind = Some(why);
        }
        answer
    }
}

fn missing(name: &str) -> ProxiedResponse {
    ProxiedResponse::failure(StatusCode::NOT_FOUND, "NotFound", &format!("secrets \"{name}\" not found"))
}
