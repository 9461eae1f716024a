//! Answers to questions about the policy, as typed results: how a name is answered and why, what differs between two
//! policies, the policy of a past moment, and figures about orders.

pub mod diff;
pub mod explain;
pub mod order_list;
pub mod order_report;
mod past_rules;
pub mod policy_at;
