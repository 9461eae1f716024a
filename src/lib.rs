//! A forwarding DNS server that checks every name against lists of blocked names.
//!
//! There are two planes, which do not import each other. The data plane ([`serve`]) answers queries; the control
//! plane ([`control`]) reads lists and publishes policies. They share only [`policy::current`]; [`daemon`] starts
//! and stops both.
//!
//! **A query**: [`serve`] receives it by UDP or TCP, [`wire::query`] parses it, and [`policy::snapshot`] decides on
//! its name. If the name is blocked, the response is written at once. Otherwise the answer comes from
//! [`serve::cache`] or [`serve::upstream`], and the policy is evaluated again for each CNAME of the answer.
//! [`serve::respond`] defines the order of these steps, without I/O or a clock. The cache holds upstream's answers
//! unfiltered. So a block that is added or removed takes effect at once, and the cache needs no change.
//!
//! **A list**: [`control::sources`] watches its file. A small list is read in this process, and merged with the
//! other small ones into an image; a large one is read by a separate process, whose code is [`control::compile`],
//! and merged with the other large ones into a second image. [`control::publish`] publishes both as one snapshot.
//! [`control`] frees the snapshot that was replaced, so that workers never free a snapshot. [`control::persist`] keeps
//! the images for the next start.
//!
//! **A decision**: [`policy::image`] holds the rules of all lists in one trie, which `docs/trie.md` explains;
//! [`policy::rules`] compares the rules that match a name by the ranks of their lists.
//!
//! **A record**: [`recorder`] copies finished queries to the query log, if the operator wants that; the threads that answer
//! never wait for it.
//!
//! **Other modules**: [`config`] parses and validates the configuration, [`cli`] has a file for each verb of the
//! command line (such as `serve`), [`stats`] counts, [`tls`] reads the certificates of authorities, and [`sys`] contains all `unsafe` code behind safe functions.
//!
//! `docs/architecture.md` has a table that shows which module may import which; a test checks it. That file also
//! describes startup and shutdown, tasks and threads, and all limits. `docs/decisions.md` gives reasons.

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod names;
pub mod policy;
pub mod recorder;
pub mod serve;
pub mod stats;
pub mod sys;
pub mod tls;
pub mod wire;
