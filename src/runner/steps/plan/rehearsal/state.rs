//! What is rehearsed at present, and what was seen of it: each request of helm is answered from here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::header::ACCEPT;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use kube::Client;
use serde_json::Value;

use super::forward::{ProxiedRequest, ProxiedResponse, send};
use super::overlay::Overlay;
use crate::core::helm::ownership::{Owner, only_with_ourselves};
use crate::core::object::{KindName, ObjectRef};
use crate::core::plan::rehearsal::discovery::{Brought, extended};
use crate::core::plan::rehearsal::request::{ApiPath, RequestPolicy, dry_run, dry_run_options, policy, right};
use crate::core::plan::rehearsal::{Dependent, Verb, Write, if_dependency_existed};
use crate::core::rights::Right;
use crate::runner::helm::record::Record;

/// Words of the API server about an admission webhook that it must not call for a dry run.
const NO_DRY_RUN: &str = "does not support dry run";

/// Greatest answer that is kept for the length of a run, in bytes: records of a release may take many times that.
const LASTING_LIMIT: usize = 1 << 20;

/// How a run of helm is rehearsed.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Records of the release as repairs would leave them: whole Secrets.
    pub seeds: Vec<Value>,
    /// Objects that are not the release's are taken into it.
    pub adopts: bool,
    /// Kinds that the chart's own definitions would bring.
    pub brought: Vec<Brought>,
    /// Objects that are replaced: their refusal is ignored.
    pub replaced: Vec<KindName>,
}

/// What was seen of a run of helm.
#[derive(Clone, Debug, Default)]
pub struct RehearsalResult {
    /// The record that helm wrote.
    pub record: Option<Record>,
    /// The writes, each object once, in helm's order.
    pub writes: Vec<Write>,
    /// The objects whose refusal was ignored because they are replaced.
    pub replaced: Vec<ObjectRef>,
    /// What could not be made a dry run, a line each.
    pub not_rehearsed: Vec<String>,
    /// The rights that helm's requests took, each with its namespace.
    pub asked: BTreeSet<(Option<String>, Right)>,
    /// Why not even helm's records could be rehearsed.
    pub blind: Option<String>,
}

/// A run of helm.
#[derive(Default)]
pub(super) struct Run {
    settings: Settings,
    /// helm's records as they would be.
    pub(super) overlay: Overlay,
    /// What helm has read, by path.
    read: HashMap<String, Bytes>,
    /// What it asks for again and again and stays the same in a run, by address and the form that it wants.
    lasting: HashMap<(String, Option<HeaderValue>), ProxiedResponse>,
    /// What was seen so far.
    pub(super) seen: RehearsalResult,
}

/// What stands between helm and the API server.
pub struct RehearsalState {
    pub(super) client: Client,
    pub(super) namespace: String,
    release: String,
    run: Mutex<Run>,
    /// What other servers than the API server say of their groups (`OpenAPI` v3), by path.
    descriptions: Mutex<BTreeMap<String, Value>>,
}

impl RehearsalState {
    /// For a release in its namespace.
    pub fn new(client: Client, namespace: &str, release: &str) -> Self {
        let (namespace, release) = (namespace.to_owned(), release.to_owned());
        Self { client, namespace, release, run: Mutex::default(), descriptions: Mutex::default() }
    }

    /// Begins a run with an overlay of its own.
    pub fn begin(&self, settings: Settings) {
        let mut overlay = Overlay::new(&self.release);
        settings.seeds.iter().for_each(|seed| overlay.put(seed.clone()));
        *self.run() = Run { settings, overlay, ..Run::default() };
    }

    /// Ends the run and tells what was seen.
    pub fn end(&self) -> RehearsalResult {
        let run = std::mem::take(&mut *self.run());
        RehearsalResult { record: run.overlay.newest(), ..run.seen }
    }

    /// The present run. Never held across a request.
    pub(super) fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request.
    pub async fn answer(&self, asked: ProxiedRequest) -> Response {
        let (method, path, query) = (asked.head.method.as_str(), asked.path(), asked.query());
        self.run().seen.asked.extend(right(method, path, query));
        let answer = match policy(method, path, query) {
            RequestPolicy::Pass => self.pass(&asked).await,
            RequestPolicy::DryRun => self.rehearse(&asked).await,
            RequestPolicy::Refuse(why) => refused(&asked, why),
        };
        answer.respond()
    }

    async fn pass(&self, asked: &ProxiedRequest) -> ProxiedResponse {
        let target = ApiPath::parse(asked.path());
        let records = target.filter(|target| asked.head.method == Method::GET && self.holds_records(target));
        if let Some(answer) = records.and_then(|target| self.read_record(target.name?)) {
            return answer;
        }
        let answer = self.once(asked, records.is_some()).await;
        if asked.head.method == Method::GET && target.is_none_or(|target| target.name.is_none()) {
            let brought = self.run().settings.brought.clone();
            if !brought.is_empty() && asked.path().starts_with("/apis") {
                return with_kinds(asked.path(), answer, &brought);
            }
        }
        if asked.head.method != Method::GET || answer.status != StatusCode::OK {
            return answer;
        }
        match (records, target) {
            (Some(ApiPath { name: None, .. }), _) => self.merged(asked, answer),
            (_, Some(ApiPath { name: Some(_), subresource: None, .. })) => {
                self.run().read.insert(asked.path().to_owned(), answer.body.clone());
                answer
            }
            _ => answer,
        }
    }

    /// Asks the API server, but only once in a run for its version, the index of its descriptions, and lists of records: in a
    /// rehearsal these change in the overlay alone.
    async fn once(&self, asked: &ProxiedRequest, records: bool) -> ProxiedResponse {
        let address = asked.head.uri.path_and_query().map_or("/", |whole| whole.as_str());
        let lasts =
            asked.head.method == Method::GET && (records || ["/version", "/openapi/v3"].contains(&asked.path()));
        let key = (address.to_owned(), asked.head.headers.get(ACCEPT).cloned());
        if let Some(known) = self.run().lasting.get(&key) {
            return known.clone();
        }
        let answer = send(&self.client, asked, &asked.head.method, address, asked.body.clone()).await;
        if lasts && answer.status == StatusCode::OK && answer.body.len() <= LASTING_LIMIT {
            self.run().lasting.insert(key, answer.clone());
        }
        answer
    }

    async fn rehearse(&self, asked: &ProxiedRequest) -> ProxiedResponse {
        let Some(target) = ApiPath::parse(asked.path()) else { return refused(asked, "it names no object") };
        let record = target.name.filter(|name| self.holds_records(&target) && self.run().overlay.holds(name));
        match record {
            Some(name) => self.record(asked, name).await,
            None => self.object(asked, &target).await,
        }
    }

    async fn object(&self, asked: &ProxiedRequest, target: &ApiPath<'_>) -> ProxiedResponse {
        let before = self.before(asked, target).await;
        if let Some(before) = before.as_ref().filter(|before| self.is_replaced(before)) {
            self.note(Verb::Update, Some(before), None);
            return ProxiedResponse::object(StatusCode::OK, before);
        }
        let verb = match (&asked.head.method, &before) {
            (&Method::DELETE, _) => Verb::Delete,
            (&Method::POST, _) | (_, None) => Verb::Create,
            _ => Verb::Update,
        };
        if !self.knows_dry_run(asked, target).await {
            return self.unrehearsed(
                asked,
                verb,
                before.as_ref(),
                "its API server does not say that it knows dry runs",
            );
        }
        let body = match asked.head.method {
            Method::DELETE => match dry_run_options(&asked.body) {
                Some(body) => Bytes::from(body),
                None => return self.unrehearsed(asked, verb, before.as_ref(), "its deletion cannot be read"),
            },
            _ => asked.body.clone(),
        };
        let takes = self.takes(asked, before.as_ref());
        let mut answer = self.try_out(asked, takes, body.clone()).await;
        if asked.applies() && answer.json().is_some_and(|failure| only_with_ourselves(&failure)) {
            answer = self.try_out(asked, true, body).await;
        }
        let after = answer.json().filter(|_| answer.status.is_success());
        if asked.head.method == Method::POST && self.holds_records(target) {
            let name = |object: &Value| object["metadata"]["name"].as_str().map(ToOwned::to_owned);
            let known = |name: &String| self.run().overlay.holds(name);
            if let Some((name, secret)) =
                after.as_ref().and_then(|secret| Some((name(secret)?, secret))).filter(|(name, _)| known(name))
            {
                return self.create_record(&name, secret);
            }
            // What is not written in JSON is one of helm's records: objects of charts are.
            if after.is_none() && asked.object().as_ref().and_then(name).is_none_or(|name| known(&name)) {
                return self.perhaps_blind(answer);
            }
        }
        if let Some(why) = no_dry_run(&answer) {
            return self.unrehearsed(asked, verb, before.as_ref(), &why);
        }
        let answer = match self.if_dependency_existed(asked, before.as_ref(), &answer) {
            Some(Dependent::Accepted) => return self.assumed(asked, verb, before.as_ref()),
            Some(Dependent::Unknown(why)) => return self.unrehearsed(asked, verb, before.as_ref(), &why),
            Some(Dependent::Refused(words)) => {
                ProxiedResponse::failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &words)
            }
            None => answer,
        };
        match verb {
            Verb::Delete => self.note(verb, before.as_ref(), None),
            _ if before.is_none() && after.is_none() => self.note_object(verb, asked.object().as_ref(), None, None),
            _ => self.note(verb, before.as_ref(), after.as_ref()),
        }
        answer
    }

    /// Passes a write on as a dry run.
    async fn try_out(&self, asked: &ProxiedRequest, force: bool, body: Bytes) -> ProxiedResponse {
        let address = format!("{}?{}", asked.path(), dry_run(asked.query(), force));
        send(&self.client, asked, &asked.head.method, &address, body).await
    }

    /// The object as it is; helm has mostly just read it.
    async fn before(&self, asked: &ProxiedRequest, target: &ApiPath<'_>) -> Option<Value> {
        target.name?;
        let path = match target.subresource {
            Some(part) => asked.path().strip_suffix(part)?.trim_end_matches('/'),
            None => asked.path(),
        };
        let known = self.run().read.get(path).cloned();
        if let Some(known) = known {
            return serde_json::from_slice(&known).ok();
        }
        let answer = send(&self.client, asked, &Method::GET, path, Bytes::new()).await;
        answer.json().filter(|_| answer.status == StatusCode::OK)
    }

    fn is_replaced(&self, object: &Value) -> bool {
        let run = self.run();
        ObjectRef::of(object).is_some_and(|object| run.settings.replaced.contains(&object.kind_name()))
    }

    /// Whether a patch takes the fields of an object that is adopted from whoever made it, as the adoption does before
    /// helm runs.
    fn takes(&self, asked: &ProxiedRequest, before: Option<&Value>) -> bool {
        let foreign =
            before.is_some_and(|object| Owner::of_object(object, &self.release, &self.namespace) != Owner::Release);
        foreign && asked.applies() && self.run().settings.adopts
    }

    async fn knows_dry_run(&self, asked: &ProxiedRequest, target: &ApiPath<'_>) -> bool {
        if target.is_built_in() {
            return true;
        }
        let path = format!("/openapi/v3/apis/{}/{}", target.group, target.version);
        let known = self.descriptions.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
        if let Some(known) = known {
            return target.declares_dry_run(asked.head.method.as_str(), &known);
        }
        let answer = send(&self.client, asked, &Method::GET, &path, Bytes::new()).await;
        let description = answer.json().filter(|_| answer.status == StatusCode::OK).unwrap_or_default();
        let known = target.declares_dry_run(asked.head.method.as_str(), &description);
        self.descriptions.lock().unwrap_or_else(PoisonError::into_inner).insert(path, description);
        known
    }

    /// What the API server would say if what helm has made before was there.
    fn if_dependency_existed(
        &self,
        asked: &ProxiedRequest,
        before: Option<&Value>,
        answer: &ProxiedResponse,
    ) -> Option<Dependent> {
        let failure = answer.json().filter(|_| !answer.status.is_success())?;
        if_dependency_existed(failure["message"].as_str()?, &self.run().seen.writes, before, asked.object().as_ref())
    }

    /// Lets helm go on as if the write had succeeded, and notes that nobody knows whether it would.
    fn unrehearsed(&self, asked: &ProxiedRequest, verb: Verb, before: Option<&Value>, why: &str) -> ProxiedResponse {
        let object = before.cloned().or_else(|| asked.object());
        let named = object.as_ref().and_then(ObjectRef::of);
        let line = format!("{}: {why}", named.map_or_else(|| asked.path().to_owned(), |object| object.to_string()));
        let mut run = self.run();
        if !run.seen.not_rehearsed.contains(&line) {
            run.seen.not_rehearsed.push(line);
        }
        drop(run);
        self.assumed(asked, verb, before)
    }

    /// Lets helm go on as if the write had succeeded.
    fn assumed(&self, asked: &ProxiedRequest, verb: Verb, before: Option<&Value>) -> ProxiedResponse {
        let Some(object) = before.cloned().or_else(|| asked.object()) else {
            return refused(asked, "what it writes cannot be read");
        };
        let after = (verb != Verb::Delete).then_some(&object);
        self.note_object(verb, Some(&object), before, after);
        ProxiedResponse::object(
            if asked.head.method == Method::POST { StatusCode::CREATED } else { StatusCode::OK },
            &object,
        )
    }

    fn note(&self, verb: Verb, before: Option<&Value>, after: Option<&Value>) {
        self.note_object(verb, before.or(after), before, after);
    }

    /// Records a write. Of several to one object, what it was before the first and what is after the last count.
    fn note_object(&self, verb: Verb, named: Option<&Value>, before: Option<&Value>, after: Option<&Value>) {
        let Some(object) = named.and_then(ObjectRef::of) else { return };
        let mut run = self.run();
        let replaced = verb == Verb::Update && run.settings.replaced.contains(&object.kind_name());
        if replaced && !run.seen.replaced.contains(&object) {
            run.seen.replaced.push(object.clone());
        }
        let after = after.cloned();
        match run.seen.writes.iter_mut().find(|write| write.object == object) {
            Some(write) => {
                write.after = after;
                if verb == Verb::Delete {
                    write.verb = verb;
                }
            }
            None => run.seen.writes.push(Write { verb, object, before: before.cloned(), after }),
        }
    }
}

/// What the API server would say of its kinds if it had those as well that the chart brings.
fn with_kinds(path: &str, answer: ProxiedResponse, brought: &[Brought]) -> ProxiedResponse {
    let known = match answer.status {
        StatusCode::OK => answer.json(),
        StatusCode::NOT_FOUND => Some(Value::Null),
        _ => None,
    };
    match known.and_then(|known| extended(path, &known, brought)) {
        Some(extended) if answer.status == StatusCode::OK => answer.with_body(&extended),
        Some(extended) => ProxiedResponse::object(StatusCode::OK, &extended),
        None => answer,
    }
}

/// The API server's words, if it did not make a dry run because of a webhook.
pub(super) fn no_dry_run(answer: &ProxiedResponse) -> Option<String> {
    let failure = answer.json().filter(|_| !answer.status.is_success())?;
    failure["message"].as_str().filter(|message| message.contains(NO_DRY_RUN)).map(ToOwned::to_owned)
}

/// A request that is not passed on.
pub(super) fn refused(asked: &ProxiedRequest, why: &str) -> ProxiedResponse {
    let message = format!("the rehearsal does not pass on {} {}: {why}", asked.head.method, asked.path());
    tracing::warn!("{message}");
    ProxiedResponse::failure(StatusCode::BAD_REQUEST, "BadRequest", &message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_webhook_that_knows_no_dry_run_is_no_refusal() {
        let words = "admission webhook \"audit.example.com\" does not support dry run";
        let answer = ProxiedResponse::failure(StatusCode::BAD_REQUEST, "BadRequest", words);
        assert_eq!(no_dry_run(&answer).as_deref(), Some(words));
        let denied = ProxiedResponse::failure(
            StatusCode::FORBIDDEN,
            "Forbidden",
            "admission webhook \"x\" denied the request: no",
        );
        assert_eq!(no_dry_run(&denied), None);
        let quoted = json!({"message": words, "kind": "Event"});
        assert_eq!(no_dry_run(&ProxiedResponse::object(StatusCode::CREATED, &quoted)), None);
    }
}
