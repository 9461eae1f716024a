//! What is recorded of finished queries: the query log.

mod query_log;
