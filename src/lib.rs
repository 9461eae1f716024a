//! A forwarding DNS server that sifts every name through lists of names.
//!
//! Two planes that never name each other. The data plane ([`serve`]) takes packets and answers
//! them; the control plane ([`control`]) reads lists and puts policies in force. They meet in
//! [`policy::current`], and [`daemon`] starts and stops both.
//!
//! **The way of a packet** is one way. [`serve::udp`] and [`serve::streams`] take it;
//! [`wire::query`] reads it; [`policy::snapshot`] decides on its name. A block is written by
//! [`wire::reply`] at once. All else comes from [`serve::cache`], or by [`serve::resolve`] from
//! [`serve::upstream`], and policy is asked again for each CNAME on the way out. The order of all
//! that is in [`serve::respond`], which owns neither socket nor clock. The cache holds upstream's
//! truth alone, so a new block counts at once and a lifted one leaves nothing behind.
//!
//! **The way of a list**: [`control::watch`] says that a file may have changed. A small one is
//! read by [`control::load`] and joined with the other small ones to an image; a large one is read
//! by another process, whose work is [`control::compile`], and with all other large ones is the
//! second image. [`control::reload`], the one owner of the policy, publishes a snapshot of both in
//! one step. What it replaces is freed there, too, and never by a worker. [`control::store`] keeps
//! the images for the next start.
//!
//! **How a name is decided**: [`policy::image`] holds the rules of all lists in one trie, which
//! `docs/trie.md` explains; [`policy::rules`] weighs those on a name's way by the lists' ranks.
//!
//! **Around them**: [`config`] turns text into checked values, [`cli`] has a file a verb,
//! [`stats`] counts, and [`sys`] holds all `unsafe` code behind safe functions.
//!
//! Which module may import which is a table in `docs/architecture.md` that a test holds. Beside
//! it stand startup and shutdown, what runs, who owns what, and each bound;
//! `docs/decisions.md` says why.

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod names;
pub mod policy;
pub mod serve;
pub mod stats;
pub mod sys;
pub mod wire;
