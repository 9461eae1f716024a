//! Names that are answered locally, before the cache and upstream: those of special-use zones, and the operator's names and
//! zones. Zones that are forwarded to their own servers are known here, too, as they end a local zone.

mod builder;
pub(crate) mod special_use;
#[cfg(test)]
mod tests;
mod tree;

pub use self::builder::LocalBuilder;
pub use self::special_use::{CANARY, SpecialUseZone, is_special_use};
pub use self::tree::{
    ForwardedZone, LocalAlias, LocalAnswer, LocalData, LocalNames, SPECIAL_USE_TTL, Soa,
};
