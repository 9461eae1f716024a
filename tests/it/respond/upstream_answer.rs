//! Upstream answers built by another implementation.

use std::sync::Arc;

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, CNAME, NULL, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tapis::serve::cache::Entry;
use tapis::serve::routes::{PoolId, Routes};
use tapis::wire::answer::{Answer, Intake};
use tapis::wire::{class, name};

/// TTLs of up to a day are left unchanged.
pub(super) const BOUNDS: Intake = Intake {
    min_ttl: 0,
    max_ttl: 86_400,
    max_negative_ttl: u32::MAX,
    additional: false,
};

/// An upstream answer under construction; NOERROR and empty at first.
#[derive(Clone, Debug)]
pub(super) struct UpstreamAnswer {
    message: Message,
    edns: Edns,
}

/// An empty answer to this question.
pub(super) fn upstream_answer(name: &str, rtype: RecordType) -> UpstreamAnswer {
    let mut message = Message::response(7, OpCode::Query);
    message.add_query(Query::query(owner(name), rtype));
    message.metadata.recursion_available = true;
    UpstreamAnswer {
        message,
        edns: Edns::new(),
    }
}

impl UpstreamAnswer {
    pub(super) fn rcode(mut self, rcode: ResponseCode) -> Self {
        self.message.metadata.response_code = rcode;
        self
    }

    /// With AD set.
    pub(super) fn authentic(mut self) -> Self {
        self.message.metadata.authentic_data = true;
        self
    }

    /// With AA set.
    pub(super) fn authoritative(mut self) -> Self {
        self.message.metadata.authoritative = true;
        self
    }

    pub(super) fn answers(mut self, records: impl IntoIterator<Item = Record>) -> Self {
        self.message.add_answers(records);
        self
    }

    pub(super) fn authority(mut self, record: Record) -> Self {
        self.message.add_authority(record);
        self
    }

    pub(super) fn additionals(mut self, records: impl IntoIterator<Item = Record>) -> Self {
        self.message.add_additionals(records);
        self
    }

    /// With an EDNS option.
    pub(super) fn option(mut self, code: u16, data: &[u8]) -> Self {
        let option = EdnsOption::Unknown(code, data.to_vec());
        self.edns.options_mut().insert(option);
        self
    }

    /// The asked name.
    pub(super) fn name(&self) -> String {
        self.message.queries[0].name().to_string()
    }

    /// The cache entry, with TTLs within `bounds`, received at `now`.
    pub(super) fn entry_within(self, bounds: Intake, now: u32) -> Arc<Entry> {
        Arc::new(Entry::new(self.answer_within(bounds), now))
    }

    /// The cache entry of an answer that this pool gave at `now`, by these routes.
    pub(super) fn of_pool(self, now: u32, pool: PoolId, routes: &Routes) -> Arc<Entry> {
        let answer = self.answer_within(BOUNDS);
        Arc::new(Entry::of_pool(answer, now, pool, routes))
    }

    fn answer_within(self, bounds: Intake) -> Answer {
        let Self { mut message, edns } = self;
        message.set_edns(edns);
        let bytes = message.to_vec().expect("it can be written");
        let question = &message.queries[0];
        let asked = name::Name::from_text(&question.name().to_string()).expect("a name");
        let rtype = question.query_type().into();
        Answer::parse(&bytes, &asked, rtype, class::IN, bounds).expect("an answer")
    }

    /// The cache entry, received at `now`.
    pub(super) fn entry(self, now: u32) -> Arc<Entry> {
        self.entry_within(BOUNDS, now)
    }
}

/// An address record.
pub(super) fn a(name: &str, ttl: u32, address: [u8; 4]) -> Record {
    Record::from_rdata(owner(name), ttl, RData::A(A(address.into())))
}

/// `count` address records, all different.
pub(super) fn many(name: &str, count: u8) -> impl Iterator<Item = Record> {
    (0..count).map(move |last| a(name, 300, [192, 0, 2, last]))
}

pub(super) fn cname(name: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(owner(name), ttl, RData::CNAME(CNAME(owner(target))))
}

pub(super) fn soa(zone: &str, ttl: u32, minimum: u32) -> Record {
    let (mname, rname) = (owner("ns.elsewhere"), owner("who.elsewhere"));
    let data = SOA::new(mname, rname, 1, 2, 3, 4, minimum);
    Record::from_rdata(owner(zone), ttl, RData::SOA(data))
}

/// A signature over records of that type; its other fields are irrelevant.
pub(super) fn rrsig(name: &str, ttl: u32, covers: RecordType) -> Record {
    let mut rdata = vec![0; 24];
    rdata[..2].copy_from_slice(&u16::from(covers).to_be_bytes());
    let data = RData::Unknown {
        code: RecordType::RRSIG,
        rdata: NULL::with(rdata),
    };
    Record::from_rdata(owner(name), ttl, data)
}

fn owner(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).expect("a name")
}
