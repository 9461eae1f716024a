//! The request that has the running server answer one query, which the data plane does without the control loop.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::caching::CachedAnswer;
use super::verdict::{Answer, MatchingRule};

/// The most queries at a time. Each may wait for upstream, and occupies a connection for as long.
const MOST: usize = 16;

/// A query to answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueryRequest {
    /// The name.
    pub name: String,
    /// The number of the type.
    pub rtype: u16,
    /// The address of the client; `None` for any permitted client.
    #[serde(default)]
    pub client: Option<IpAddr>,
    /// How the client asks.
    #[serde(default)]
    pub transport: QueryTransport,
    /// Whether the client asks for DNSSEC records.
    #[serde(default)]
    pub dnssec: bool,
}

/// The transport of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryTransport {
    /// A datagram, so that a long answer is truncated.
    #[default]
    Udp,
    /// A connection.
    Tcp,
}

/// How the server answered a query.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueryReport {
    /// The name.
    pub name: String,
    /// The type.
    pub rtype: String,
    /// The client for which it was answered.
    pub client: IpAddr,
    /// The transport of the query.
    pub transport: QueryTransport,
    /// The generation of the policy.
    pub generation: u64,
    /// How it ended, as `status` counts it.
    pub outcome: String,
    /// Where the answer comes from, in the words of the query log; `None` if there is none, or it is an error of this
    /// server.
    pub from: Option<String>,
    /// The answer; `None` if the client gets none.
    pub answer: Option<ClientAnswer>,
    /// The source of the rule that blocks or allows it; `None` if no rule does.
    pub by: Option<String>,
    /// The rules that match its name, the client, or the names and addresses in upstream's answer.
    pub rules: Vec<MatchingRule>,
    /// What upstream says about the names that the answer depends on, in order.
    pub upstream: Vec<UpstreamPart>,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Sentences about the answer that the fields above do not say.
    pub notes: Vec<String>,
}

/// The message that a client gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientAnswer {
    /// Its response code, records, and Extended DNS Errors.
    #[serde(flatten)]
    pub answer: Answer,
    /// The flags that are set, as `dig` writes them.
    pub flags: Vec<String>,
    /// The records of the authority section.
    pub authority: Vec<String>,
    /// The records of the additional section.
    pub additional: Vec<String>,
    /// The length of the message.
    pub bytes: usize,
}

/// What upstream says about one name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamPart {
    /// The name.
    pub name: String,
    /// The type.
    pub rtype: String,
    /// How long upstream took, in microseconds; `None` if the answer, or the failure, was in the cache.
    pub waited_us: Option<u64>,
    /// The answer, before the policy is applied; `None` if there is no usable one.
    pub answer: Option<CachedAnswer>,
}

/// Answers queries as those of clients, but without counting or recording them.
pub trait QueryControl: Send + Sync {
    /// Answers one query. It takes as long as upstream does.
    ///
    /// # Errors
    /// Why the query is not valid.
    fn query(&self, request: QueryRequest) -> BoxFuture<'static, Result<QueryReport, String>>;
}

/// The route of this request.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(plane: Arc<dyn QueryControl>) -> Router<S> {
    let permits = Arc::new(Semaphore::new(MOST));
    let query = move |Json(request): Json<QueryRequest>| async move {
        let Ok(_permit) = permits.try_acquire() else {
            let why = format!("{MOST} queries of operators are in progress: try again later");
            return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
        };
        answer(plane.query(request).await)
    };
    Router::new().route("/query", post(query))
}

fn answer(result: Result<QueryReport, String>) -> Response {
    match result {
        Ok(report) => Json(report).into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}
