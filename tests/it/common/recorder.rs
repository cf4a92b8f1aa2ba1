//! A web server of a test that keeps who asked it for what, and with which credentials.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

/// What is answered to a path.
#[derive(Clone)]
pub enum Answer {
    Redirect(String),
    Content(Vec<u8>),
}

/// A request: its path and its Authorization.
pub type Asked = (String, Option<String>);

#[derive(Default)]
struct Desk {
    answers: Mutex<HashMap<String, Answer>>,
    wanted: Mutex<Option<String>>,
    asked: Mutex<Vec<Asked>>,
}

pub struct Recorder {
    pub url: String,
    desk: Arc<Desk>,
}

impl Recorder {
    /// Listens at that address, and answers 404 to everything that it has no answer for.
    pub async fn start(listen: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((listen, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let desk = Arc::new(Desk::default());
        let router = Router::new().fallback(answer).with_state(desk.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, desk }
    }

    pub fn answer(&self, path: &str, answer: Answer) {
        self.desk.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// From now on answers 401 to whoever gives another Authorization.
    pub fn want(&self, authorization: &str) {
        *self.desk.wanted.lock().unwrap() = Some(authorization.to_owned());
    }

    /// Lists one version of the chart, which lies at an address.
    pub fn index(&self, path: &str, version: &str, url: &str) {
        let index = format!(
            "apiVersion: v1\nentries:\n  coder:\n  - {{apiVersion: v2, name: coder, version: {version}, urls: [\"{url}\"]}}\n"
        );
        self.answer(path, Answer::Content(index.into_bytes()));
    }

    /// All that it was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.desk.asked.lock().unwrap())
    }
}

async fn answer(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let given = request.headers().get(header::AUTHORIZATION).map(|given| given.to_str().unwrap().to_owned());
    desk.asked.lock().unwrap().push((path.clone(), given.clone()));
    if desk.wanted.lock().unwrap().as_ref().is_some_and(|wanted| given.as_ref() != Some(wanted)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let answer = desk.answers.lock().unwrap().get(&path).cloned();
    match answer {
        Some(Answer::Redirect(to)) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Some(Answer::Content(content)) => content.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
