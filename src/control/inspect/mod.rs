//! Reports about the policy, as typed results: explanations of answers, differences between two policies, the policy of
//! a past moment, and figures about orders.

pub mod diff;
pub mod explain;
pub mod list_lines;
pub mod order_list;
pub mod order_report;
pub mod past;
mod past_rules;
pub mod policy_at;
