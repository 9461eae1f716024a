//! What a policy zone can't say of a policy.

/// How often the policy can't be expressed as a policy zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inexpressible {
    /// Rules with patterns. They are left out.
    pub patterns: u64,
    /// Effects that are limited by conditions. Rules with such effects are left out.
    pub conditions: u64,
    /// Effects of rules that have no counterpart. NODATA takes their place, or the records that a policy zone can have.
    pub effects: u64,
    /// Owners that would have more than 255 bytes. They are left out.
    pub long_owners: u64,
    /// Owners that have another meaning in a policy zone: the root, names that begin with the label `*`, and names below
    /// `rpz-ip` and the like. They are left out.
    pub reserved_owners: u64,
    /// Networks of clients that are left out, because a rule on a name precedes theirs. In a policy zone it is the reverse.
    pub networks: u64,
    /// Networks that apply to more or fewer queries than here: because of exceptions, or because in a policy zone, names that
    /// are allowed precede all networks of answers.
    pub inexact_networks: u64,
}
