//! What is recorded of finished queries: the query log, dnstap, top lists, live queries.

mod dnstap;
mod live;
mod query_log;
