//! The keys of an order's file with their types and lines, before validation.

use jiff::civil::Date;
use toml::de::DeTable;

use super::super::reader::{At, Reader, Strings, Texts};
use crate::config::findings::Findings;
use crate::config::moment::Moment;

pub(super) struct Raw {
    pub(super) id: Option<At<String>>,
    pub(super) authority: Option<At<Authority>>,
    pub(super) decision: Option<At<Decision>>,
    pub(super) legal_basis: Option<Strings>,
    pub(super) category: Option<At<String>>,
    pub(super) reason: Option<Texts>,
    pub(super) public_text: Option<Texts>,
    pub(super) dates: Dates,
    pub(super) redress: Option<At<Redress>>,
    pub(super) notices: Vec<Notice>,
    pub(super) action: Option<At<String>>,
    pub(super) sinkhole: Option<Strings>,
    pub(super) supersedes: Option<Strings>,
    pub(super) targets: Vec<Target>,
}

pub(super) struct Authority {
    pub(super) name: Option<At<String>>,
    pub(super) country: Option<At<String>>,
    pub(super) unit: Option<At<String>>,
    pub(super) contact: Option<At<String>>,
}

pub(super) struct Decision {
    pub(super) reference: Option<At<String>>,
    pub(super) date: Option<At<Date>>,
}

pub(super) struct Dates {
    pub(super) issued_at: Option<At<Moment>>,
    pub(super) effective_from: Option<At<Moment>>,
    pub(super) comply_by: Option<At<Moment>>,
    pub(super) review_at: Option<At<Moment>>,
    pub(super) expires_at: Option<At<Moment>>,
    pub(super) suspended: Vec<Suspension>,
    pub(super) lifted_at: Option<At<Moment>>,
    pub(super) lift_reason: Option<At<String>>,
}

pub(super) struct Suspension {
    pub(super) line: u32,
    pub(super) from: Option<At<Moment>>,
    pub(super) until: Option<At<Moment>>,
    pub(super) reason: Option<At<String>>,
}

pub(super) struct Redress {
    pub(super) how: Option<At<String>>,
    pub(super) deadline: Option<At<String>>,
}

pub(super) struct Notice {
    pub(super) line: u32,
    pub(super) sent_at: Option<At<Moment>>,
    pub(super) channel: Option<At<String>>,
    pub(super) to: Option<At<String>>,
    pub(super) reply_due: Option<At<Moment>>,
    pub(super) replied_at: Option<At<Moment>>,
}

pub(super) struct Target {
    pub(super) line: u32,
    pub(super) name: Option<At<String>>,
    pub(super) scope: Option<At<String>>,
    pub(super) except: Option<Strings>,
}

impl Raw {
    /// Reads the file's table. Unknown keys and wrong types are reported.
    pub(super) fn read(table: DeTable<'_>, findings: &mut Findings) -> Self {
        Reader::read_all(table, findings, |file| Self {
            id: file.string("id"),
            authority: file.section_at("authority", |table| Authority {
                name: table.string("name"),
                country: table.string("country"),
                unit: table.string("unit"),
                contact: table.string("contact"),
            }),
            decision: file.section_at("decision", |table| Decision {
                reference: table.string("reference"),
                date: table.date("date"),
            }),
            legal_basis: file.strings("legal-basis"),
            category: file.string("category"),
            reason: file.texts("reason"),
            public_text: file.texts("public-text"),
            dates: Dates::read(file),
            redress: file.section_at("redress", |table| Redress {
                how: table.string("how"),
                deadline: table.string("deadline"),
            }),
            notices: file.sections("notices", |table| Notice {
                line: table.line(),
                sent_at: table.moment("sent-at"),
                channel: table.string("channel"),
                to: table.string("to"),
                reply_due: table.moment("reply-due"),
                replied_at: table.moment("replied-at"),
            }),
            action: file.string("action"),
            sinkhole: file.strings("sinkhole"),
            supersedes: file.strings("supersedes"),
            targets: file.sections("targets", |table| Target {
                line: table.line(),
                name: table.string("name"),
                scope: table.string("scope"),
                except: table.strings("except"),
            }),
        })
    }
}

impl Dates {
    fn read(file: &mut Reader<'_, '_>) -> Self {
        Self {
            issued_at: file.moment("issued-at"),
            effective_from: file.moment("effective-from"),
            comply_by: file.moment("comply-by"),
            review_at: file.moment("review-at"),
            expires_at: file.moment("expires-at"),
            suspended: file.sections("suspended", |table| Suspension {
                line: table.line(),
                from: table.moment("from"),
                until: table.moment("until"),
                reason: table.string("reason"),
            }),
            lifted_at: file.moment("lifted-at"),
            lift_reason: file.string("lift-reason"),
        }
    }
}
