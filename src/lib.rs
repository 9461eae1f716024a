//! A forwarding DNS server that sifts every name through lists of names.
//!
//! Two planes that never name each other. The data plane ([`serve`]) takes packets and answers
//! them; the control plane ([`control`]) reads lists and puts policies in force. They meet in
//! [`policy::current`], and [`daemon`] starts and stops both.
//!
//! **The path of a packet.** A transport ([`serve::transport::udp`], [`serve::transport::stream`]) receives it and
//! passes it to the dispatcher ([`serve::dispatch`]). [`wire::query`] reads it, and [`policy::snapshot`] decides on its
//! name. A block is answered at once by [`wire::reply`]. All other answers come from [`serve::cache`], or by
//! [`serve::resolver`] from [`serve::upstream`]; on the way out the policy is applied to each CNAME, too.
//! [`serve::respond`] has the order of these steps, without sockets and clocks. Each finished query is reported to
//! [`serve::observe`] once. The cache holds upstream's answers unfiltered, so a new block applies at once and a lifted
//! one leaves nothing behind.
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
pub mod policy;
pub mod serve;
pub mod stats;
pub mod sys;
pub mod wire;
