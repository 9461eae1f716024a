//! A forwarding DNS server that checks every name against lists of blocked names.
//!
//! There are two planes, which do not import each other. The data plane ([`serve`]) answers queries; the control
//! plane ([`control`]) reads lists and publishes policies. They share only [`policy::current`]; [`daemon`] starts
//! and stops both.
//!
//! **A query**: [`serve::udp`] and [`serve::streams`] receive it, [`wire::query`] parses it, and
//! [`policy::snapshot`] decides on its name. If the name is blocked, [`wire::reply`] writes the response at once.
//! Otherwise the answer comes from [`serve::cache`], or through [`serve::resolve`] from [`serve::upstream`], and the
//! policy is evaluated again for each CNAME of it. [`serve::respond`] defines the order of these steps, without
//! I/O or a clock. The cache holds upstream's answers unfiltered, so a new block takes effect at once, and a
//! lifted one leaves no trace.
//!
//! **A list**: [`control::watch`] reports that a file may have changed. [`control::load`] reads a small list and
//! merges it with the other small ones into an image; a separate process, whose code is [`control::compile`], reads
//! a large one, and merges it with the other large ones into a second image. [`control::reload`], the only owner of
//! the policy, publishes both as one snapshot, and frees the one that it replaces, so that workers never do.
//! [`control::store`] keeps the images for the next start.
//!
//! **A decision**: [`policy::image`] holds the rules of all lists in one trie, which `docs/trie.md` explains;
//! [`policy::rules`] compares the rules that match a name by the ranks of their lists.
//!
//! **Other modules**: [`config`] parses and validates the configuration, [`cli`] has a file for each verb,
//! [`stats`] counts, and [`sys`] contains all `unsafe` code behind safe functions.
//!
//! `docs/architecture.md` has a table of which module may import which, checked by a test; startup and shutdown;
//! tasks and threads; and all limits. `docs/decisions.md` gives reasons.

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod policy;
pub mod serve;
pub mod stats;
pub mod sys;
pub mod wire;
