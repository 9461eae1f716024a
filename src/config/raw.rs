//! The sections and keys of the configuration file with their types and lines, before validation.

use toml::de::DeTable;

use super::blocking::Block;
use super::dnstap::RawDnstap;
use super::download::{RawDownload, RawDownloads};
use super::exception;
use super::feed;
use super::findings::Findings;
use super::forward;
use super::guard;
use super::local;
use super::log::RawLog;
use super::metrics::RawMetrics;
use super::process::RawProcess;
use super::publish;
use super::reader::{At, Reader, Strings, WordOrStrings};
use super::recording::RawQueryLog;
use super::special_use;
use super::top::RawTop;
use super::upstream;
use super::zone;

/// What a section `[local]` was replaced by.
const RENAMED: &str =
    "[local] is now [special-use]: rename it; [[local]] has names that are answered locally";

pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) upstream: upstream::Raw,
    pub(super) cache: Cache,
    pub(super) special_use: special_use::Raw,
    pub(super) local: Vec<local::Raw>,
    pub(super) forward: Vec<forward::Raw>,
    pub(super) block: Block,
    pub(super) state: State,
    pub(super) download: RawDownloads,
    pub(super) journal: Journal,
    pub(super) process: RawProcess,
    pub(super) log: RawLog,
    pub(super) metrics: RawMetrics,
    pub(super) query_log: RawQueryLog,
    pub(super) dnstap: RawDnstap,
    pub(super) top: RawTop,
    pub(super) guard: guard::Raw,
    pub(super) orders: Orders,
    pub(super) exceptions: Exceptions,
    pub(super) lists: Vec<List>,
    pub(super) feeds: Vec<feed::Raw>,
    pub(super) exception: Vec<exception::Raw>,
    pub(super) publish: Vec<publish::Raw>,
}

impl Raw {
    /// Reads the file's table. Unknown keys and wrong types are reported.
    pub(super) fn read(table: DeTable<'_>, findings: &mut Findings) -> Self {
        Reader::read_all(table, findings, |file| Self {
            server: file.section("server", Server::read),
            upstream: file.section("upstream", upstream::Raw::read),
            cache: file.section("cache", Cache::read),
            special_use: file.section("special-use", special_use::Raw::read),
            local: file.sections_not_table("local", RENAMED, local::Raw::read),
            forward: file.sections("forward", forward::Raw::read),
            block: file.section("block", Block::read),
            state: file.section("state", State::read),
            download: file.section("download", RawDownloads::read),
            journal: file.section("journal", Journal::read),
            process: file.section("process", RawProcess::read),
            log: file.section("log", RawLog::read),
            metrics: file.section("metrics", RawMetrics::read),
            query_log: file.section("query-log", RawQueryLog::read),
            dnstap: file.section("dnstap", RawDnstap::read),
            top: file.section("top", RawTop::read),
            guard: file.section("guard", guard::Raw::read),
            orders: file.section("orders", Orders::read),
            exceptions: file.section("exceptions", Exceptions::read),
            lists: file.sections("list", List::read),
            feeds: file.sections("feed", feed::Raw::read),
            exception: file.sections("exception", exception::Raw::read),
            publish: file.sections("publish", publish::Raw::read),
        })
    }
}

#[derive(Default)]
pub(super) struct Server {
    pub(super) listen: Option<Strings>,
    pub(super) workers: Option<At<i64>>,
    pub(super) allow: Option<Strings>,
    pub(super) control: Option<At<String>>,
    pub(super) control_group: Option<At<String>>,
    pub(super) version: Option<At<String>>,
    pub(super) id: Option<At<String>>,
    pub(super) tcp_connections: Option<At<i64>>,
    pub(super) tcp_connections_per_client: Option<At<i64>>,
    pub(super) tcp_idle_secs: Option<At<i64>>,
    pub(super) discard_ms: Option<At<i64>>,
}

impl Server {
    fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            listen: table.strings("listen"),
            workers: table.integer("workers"),
            allow: table.strings("allow"),
            control: table.string("control"),
            control_group: table.string("control-group"),
            version: table.string("version"),
            id: table.string("id"),
            tcp_connections: table.integer("tcp-connections"),
            tcp_connections_per_client: table.integer("tcp-connections-per-client"),
            tcp_idle_secs: table.integer("tcp-idle-secs"),
            discard_ms: table.integer("discard-ms"),
        }
    }
}

#[derive(Default)]
pub(super) struct Cache {
    pub(super) size_mib: Option<At<i64>>,
    pub(super) min_ttl_secs: Option<At<i64>>,
    pub(super) max_ttl_secs: Option<At<i64>>,
    pub(super) max_negative_ttl_secs: Option<At<i64>>,
    pub(super) stale_secs: Option<At<i64>>,
    pub(super) additional: Option<At<bool>>,
}

impl Cache {
    fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            size_mib: table.integer("size-mib"),
            min_ttl_secs: table.integer("min-ttl-secs"),
            max_ttl_secs: table.integer("max-ttl-secs"),
            max_negative_ttl_secs: table.integer("max-negative-ttl-secs"),
            stale_secs: table.integer("stale-secs"),
            additional: table.boolean("additional"),
        }
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) dir: Option<At<String>>,
    pub(super) keep: Option<At<i64>>,
    pub(super) history_days: Option<At<i64>>,
    pub(super) history_mib: Option<At<i64>>,
    pub(super) compile_secs: Option<At<i64>>,
}

impl State {
    fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            dir: table.string("dir"),
            keep: table.integer("keep"),
            history_days: table.integer("history-days"),
            history_mib: table.integer("history-mib"),
            compile_secs: table.integer("compile-secs"),
        }
    }
}

#[derive(Default)]
pub(super) struct Journal {
    pub(super) path: Option<At<String>>,
    pub(super) key: Option<At<String>>,
}

impl Journal {
    fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            path: table.string("path"),
            key: table.string("key"),
        }
    }
}

#[derive(Default)]
pub(super) struct Orders {
    pub(super) path: Option<At<String>>,
    pub(super) language: Option<At<String>>,
}

impl Orders {
    fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            path: table.string("path"),
            language: table.string("language"),
        }
    }
}

#[derive(Default)]
pub(super) struct Exceptions {
    pub(super) path: Option<At<String>>,
}

impl Exceptions {
    fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            path: table.string("path"),
        }
    }
}

pub(super) struct List {
    pub(super) line: u32,
    pub(super) name: Option<At<String>>,
    pub(super) path: Option<At<String>>,
    pub(super) download: RawDownload,
    pub(super) kind: Option<At<String>>,
    pub(super) format: Option<At<String>>,
    pub(super) comments: Option<At<String>>,
    pub(super) scope: Option<At<String>>,
    pub(super) column: Option<At<String>>,
    pub(super) allow_scope: Option<At<String>>,
    pub(super) required: Option<At<bool>>,
    pub(super) guards: Option<At<WordOrStrings>>,
    pub(super) text: Option<At<String>>,
    pub(super) block: Block,
    pub(super) zone: zone::Raw,
}

impl List {
    fn read(table: &mut Reader<'_, '_>) -> Self {
        let download = RawDownload::read(table);
        Self {
            line: table.line(),
            name: table.required_string("name"),
            path: match download.is_given() {
                true => table.string("path"),
                false => table.required_string("path"),
            },
            download,
            kind: table.string("kind"),
            format: table.string("format"),
            comments: table.string("comments"),
            scope: table.string("scope"),
            column: table.string("column"),
            allow_scope: table.string("allow-scope"),
            required: table.boolean("required"),
            guards: table.word_or_strings("guards"),
            text: table.string("text"),
            block: Block::read(table),
            zone: zone::Raw::read(table),
        }
    }
}
