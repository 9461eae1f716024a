//! What is recorded of finished queries: the query log and dnstap.

mod dnstap;
mod query_log;
