//! The requests about the cache, which the data plane answers without the control loop: figures, answers, flushes.

use std::fmt;
use std::sync::Arc;

use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::passing::{Passing, ending};
use super::verdict::Answer;

/// The state of the cache. The counters are those since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CacheStats {
    /// Answers in it.
    pub entries: usize,
    /// Bytes of these answers.
    pub bytes: u64,
    /// Bytes of answers that it may hold.
    pub limit: u64,
    /// Recent failures in it.
    pub failures: usize,
    /// Queries answered from it.
    pub hits: u64,
    /// Queries for which upstream was to be asked, because the cache had no answer within its TTL.
    pub misses: u64,
    /// Queries answered with a stale answer.
    pub stale: u64,
    /// Popular answers that were refreshed before they expired.
    pub prefetched: u64,
    /// Answers that were removed to make room for others.
    pub evictions: u64,
    /// Answers that were not kept, because another thread held the lock.
    pub not_kept: u64,
}

/// A request for the answers about a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShowRequest {
    /// The name.
    pub name: String,
    /// The number of the type; `None` for all types.
    #[serde(default)]
    pub rtype: Option<u16>,
}

/// The answers of the cache in which a name occurs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CacheShown {
    /// The first of them.
    pub answers: Vec<CachedAnswer>,
    /// How many others there are.
    pub more: u64,
}

/// An answer of the cache, as upstream sent it: the policy is applied when it is used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CachedAnswer {
    /// The name that was asked for. The name of the request is this one, or in the chain.
    pub name: String,
    /// The type that was asked for.
    pub rtype: String,
    /// Whether it is for clients that ask for DNSSEC records.
    pub dnssec_ok: bool,
    /// Whether it is for clients that want no validation.
    pub checking_disabled: bool,
    /// Seconds since it was received.
    pub age_secs: u32,
    /// Seconds for which it is used; 0 if it is stale.
    pub ttl_secs: u32,
    /// Seconds since its TTL ended, if it is stale.
    #[serde(default)]
    pub stale_secs: Option<u32>,
    /// Whether it was used so often shortly before its end that upstream is asked again before it expires.
    #[serde(default)]
    pub popular: bool,
    /// Whether upstream has validated it.
    pub authentic: bool,
    /// The server that sent it; `None` if that is not asked any more.
    #[serde(default)]
    pub server: Option<String>,
    /// The sign by which this server blocks the name; `None` if it does not.
    #[serde(default)]
    pub upstream_block: Option<String>,
    /// The forwarded zones whose servers it is from; empty if it is from `[upstream]`.
    #[serde(default)]
    pub zones: Vec<String>,
    /// Bytes of memory.
    pub bytes: usize,
    /// The response code, the records with their remaining TTL, and upstream's Extended DNS Errors.
    pub answer: Answer,
}

/// Which answers are removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlushScope {
    /// Those in which this name occurs.
    Name(String),
    /// Those in which this name, or a name below it, occurs.
    Zone(String),
    /// All of them.
    All,
}

impl fmt::Display for FlushScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Zone(zone) => write!(f, "--zone {zone}"),
            Self::All => f.write_str("--all"),
        }
    }
}

/// A request to remove answers and failures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlushRequest {
    /// Which ones.
    pub scope: FlushScope,
    /// Only those of queries for this type.
    #[serde(default)]
    pub rtype: Option<u16>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushReport {
    /// The number of answers.
    pub answers: u64,
    /// The number of remembered failures.
    pub failures: u64,
}

/// The cache of the running server. The functions may take long, and must not be called by a task.
pub trait CacheControl: Send + Sync {
    /// Its state.
    fn stats(&self) -> CacheStats;

    /// The answers in which a name occurs.
    ///
    /// # Errors
    /// Why the request is not valid.
    fn show(&self, request: &ShowRequest) -> Result<CacheShown, String>;

    /// Removes answers and failures. Answers that are on their way are not kept either.
    ///
    /// # Errors
    /// Why nothing was removed.
    fn flush(&self, request: &FlushRequest) -> Result<FlushReport, String>;
}

/// The routes of these requests.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    cache: &Arc<dyn CacheControl>,
    passing: Passing,
) -> Router<S> {
    let [stats, show, flush] = [(); 3].map(|()| Arc::clone(cache));
    let stats = move || async move { blocking(move || Some(Ok(stats.stats()))).await };
    let show = move |Json(request): Json<ShowRequest>| async move {
        blocking(move || Some(show.show(&request))).await
    };
    let flush = move |Extension(Caller(user)), Json(request): Json<FlushRequest>| async move {
        blocking(move || {
            let flushed = passing.unless_passing(|| flush.flush(&request))?;
            if let Ok(FlushReport { answers, failures }) = &flushed {
                let (scope, rtype) = (&request.scope, request.rtype);
                tracing::info!(%scope, rtype, user, answers, failures, "cache flushed");
            }
            Some(flushed)
        })
        .await
    };
    Router::new()
        .route("/cache", get(stats))
        .route("/cache/show", post(show))
        .route("/cache/flush", post(flush))
}

/// Answers with the result of work that may take long; `None` if it is left to another process.
async fn blocking<T: Serialize + Send + 'static>(
    work: impl FnOnce() -> Option<Result<T, String>> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(None) => ending(),
        Ok(Some(Ok(result))) => Json(result).into_response(),
        Ok(Some(Err(why))) => (StatusCode::BAD_REQUEST, why).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
