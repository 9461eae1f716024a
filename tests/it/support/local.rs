//! Names that are answered locally.

use std::sync::Arc;

use tapis::policy::local::{LocalBuilder, LocalNames};
use tapis::policy::record::LocalRecord;
use tapis::wire::name::Name;

/// Local names with these records: owner, type and data. Their TTL is 60.
pub(crate) fn local_names(records: &[(&str, u16, &[u8])]) -> Arc<LocalNames> {
    let mut builder = LocalBuilder::new(&[], true);
    for (owner, rtype, data) in records {
        let record = LocalRecord {
            rtype: *rtype,
            ttl_secs: Some(60),
            data: (*data).into(),
        };
        let owner = Name::from_text(owner).expect("a name");
        builder.add_record(&owner, record, 1);
    }
    Arc::new(builder.finish())
}
