//! A proxy before DynamoDB Local, which makes it fail as the service does and the local server never would.
//!
//! Faults are scripted by operation and number of times. A table's stream can be taken over (`shards`): then its records are
//! those of the real stream, but cut into shards that a test closes, splits, hides and trims.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::server;
use super::streams::Streams;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this code, and not done.
    Refuse(&'static str),
    /// The service fails, without doing it.
    Fail,
    /// It is done, and then the connection ends without an answer.
    DoneUnanswered,
    /// A page of records is empty, and the next one begins where it did.
    EmptyPage,
    /// A page of records is given, and then once more.
    SamePage,
    /// None: it is done and answered.
    Pass,
    /// It waits until the test lets it go on.
    Hold,
    /// It is done, and its answer waits until the test lets it go on.
    SlowAnswer,
    /// Of a batch of writes, only the first is done; the others are left to be sent again.
    Unprocessed,
}

/// A request as it came: operation and body.
pub type Call = (String, Value);

/// A running proxy.
pub struct Shim {
    /// Its address.
    pub url: String,
    state: Arc<State>,
    _task: AbortOnDropHandle<()>,
}

struct State {
    script: Mutex<VecDeque<(&'static str, usize, Fault)>>,
    calls: watch::Sender<Vec<Call>>,
    released: watch::Sender<bool>,
    /// Requests that are held, or whose answers are.
    waiting: watch::Sender<usize>,
    streams: Streams,
    upstream: Upstream,
}

/// The real server.
#[derive(Clone)]
pub struct Upstream(Client<HttpConnector, Full<Bytes>>);

impl Upstream {
    /// Passes a request on.
    async fn pass(&self, parts: hyper::http::request::Parts, body: Bytes) -> Response<Full<Bytes>> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(parts.method).uri(format!("{}{path}", server::url()));
        for (name, value) in &parts.headers {
            request = request.header(name, value);
        }
        let answer = self.0.request(request.body(Full::new(body)).expect("a request")).await.expect("the server lives");
        let (parts, body) = answer.into_parts();
        Response::from_parts(parts, Full::new(body.collect().await.expect("a whole answer").to_bytes()))
    }

    /// Asks for something of its own.
    pub async fn ask(&self, target: &str, body: &Value) -> Value {
        let request = Request::post(server::url())
            .header("x-amz-target", target)
            .header("content-type", "application/x-amz-json-1.0")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=local/20250101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
            .body(Full::new(body.to_string().into()))
            .expect("a request");
        let answer = self.0.request(request).await.expect("the server lives");
        let body = answer.into_body().collect().await.expect("a whole answer").to_bytes();
        serde_json::from_slice(&body).expect("JSON")
    }
}

impl Shim {
    /// Starts one on a port of its own.
    pub async fn new() -> Self {
        let upstream = Upstream(Client::builder(TokioExecutor::new()).build_http());
        let state = Arc::new(State {
            script: Mutex::default(),
            calls: watch::Sender::default(),
            released: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
            streams: Streams::new(upstream.clone()),
            upstream,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { url, state, _task: AbortOnDropHandle::new(task) }
    }

    /// Makes the next `times` requests for an operation fail; after what was scripted for it before.
    pub fn fault(&self, operation: &'static str, times: usize, fault: Fault) {
        self.state.script.lock().expect("no panic").push_back((operation, times, fault));
    }

    /// Faults that have not happened yet.
    pub fn left(&self) -> usize {
        self.state.script.lock().expect("no panic").iter().map(|(_, times, _)| times).sum()
    }

    /// Lets requests go on that are held, now and later.
    pub fn release(&self) {
        self.state.released.send_replace(true);
    }

    /// Returns when so many requests have come to be held.
    pub async fn waiting(&self, count: usize) {
        self.state.waiting.subscribe().wait_for(|waiting| *waiting >= count).await.expect("the shim lives");
    }

    /// Requests so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.borrow().clone()
    }

    /// Returns when so many requests have come that are like this.
    pub async fn called(&self, count: usize, like: impl Fn(&str, &Value) -> bool) {
        let enough = |calls: &Vec<Call>| calls.iter().filter(|(called, body)| like(called, body)).count() >= count;
        self.state.calls.subscribe().wait_for(enough).await.expect("the shim lives");
    }

    /// Requests so far for an operation.
    pub fn calls_of(&self, operation: &str) -> Vec<Value> {
        self.calls().into_iter().filter(|(called, _)| called == operation).map(|(_, body)| body).collect()
    }

    /// The streams that were taken over.
    pub fn streams(&self) -> &Streams {
        &self.state.streams
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&state), request));
            // A client that goes away in the middle is no failure of the proxy.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Cuts the connection.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is cut")
    }
}

impl std::error::Error for Cut {}

async fn handle(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    state.calls.send_modify(|calls| calls.push((operation.clone(), asked.clone())));
    let fault = take(&state, &operation);
    match fault {
        Some(Fault::Refuse(code)) => return Ok(refuse(code)),
        Some(Fault::Fail) => {
            return Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({"__type": "InternalServerError"})));
        }
        Some(Fault::EmptyPage) => {
            return Ok(answer(StatusCode::OK, &json!({"Records": [], "NextShardIterator": asked["ShardIterator"]})));
        }
        Some(Fault::Unprocessed) => return Ok(first_of_batch(&state, parts, asked).await),
        Some(Fault::Hold) => hold(&state).await,
        Some(Fault::DoneUnanswered | Fault::SamePage | Fault::SlowAnswer | Fault::Pass) | None => {}
    }
    let taken_over = state.streams.answer(&operation, &asked).await;
    let mut done = match taken_over {
        Some(Ok(body)) => answer(StatusCode::OK, &body),
        Some(Err(code)) => refuse(code),
        None => state.upstream.pass(parts, body).await,
    };
    match fault {
        Some(Fault::DoneUnanswered) => Err(Cut),
        Some(Fault::SlowAnswer) => {
            hold(&state).await;
            Ok(done)
        }
        Some(Fault::SamePage) => {
            let Ok(body) = done.body_mut().collect().await.map_err(|never: Infallible| match never {});
            let mut page: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
            page["NextShardIterator"] = asked["ShardIterator"].clone();
            Ok(answer(StatusCode::OK, &page))
        }
        _ => Ok(done),
    }
}

/// Waits until the test lets requests go on.
async fn hold(state: &State) {
    state.waiting.send_modify(|count| *count += 1);
    let _ = state.released.subscribe().wait_for(|released| *released).await;
}

/// The next fault that is scripted for an operation.
fn take(state: &State, operation: &str) -> Option<Fault> {
    let mut script = state.script.lock().expect("no panic");
    let at = script.iter().position(|(scripted, ..)| *scripted == operation)?;
    let (_, times, fault) = &mut script[at];
    let fault = *fault;
    *times -= 1;
    if *times == 0 {
        script.remove(at);
    }
    Some(fault)
}

/// Does the first write of a batch and leaves the others.
async fn first_of_batch(state: &State, parts: hyper::http::request::Parts, mut asked: Value) -> Response<Full<Bytes>> {
    let mut left = serde_json::Map::new();
    let mut first = true;
    for (table, writes) in asked["RequestItems"].as_object_mut().into_iter().flatten() {
        let writes = writes.as_array_mut().expect("a list of writes");
        let rest = writes.split_off(usize::from(std::mem::take(&mut first)).min(writes.len()));
        left.insert(table.clone(), rest.into());
    }
    left.retain(|_, writes| writes.as_array().is_some_and(|writes| !writes.is_empty()));
    asked["RequestItems"].as_object_mut().expect("a map").retain(|_, writes| writes != &json!([]));
    let done = state.upstream.pass(without_length(parts), asked.to_string().into()).await;
    match done.status() {
        StatusCode::OK => answer(StatusCode::OK, &json!({ "UnprocessedItems": left })),
        _ => done,
    }
}

/// The body is another one than the length says; the local server checks no signature.
fn without_length(mut parts: hyper::http::request::Parts) -> hyper::http::request::Parts {
    parts.headers.remove("content-length");
    parts
}

fn refuse(code: &str) -> Response<Full<Bytes>> {
    let kind = format!("com.amazonaws.dynamodb.v20120810#{code}");
    answer(StatusCode::BAD_REQUEST, &json!({"__type": kind, "message": "made up by the shim"}))
}

fn answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0")
        .body(Full::new(body.to_string().into()))
        .expect("an answer")
}
