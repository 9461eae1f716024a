//! Finds the rules on the networks that an address belongs to, in all images of a snapshot.
//!
//! The networks divide the addresses into ranges. Two arrays have the starts of all ranges, for IPv4 and for IPv6; a binary
//! search finds the range of an address, and with it the smallest network. Each network refers to the next larger one
//! that contains it, so one search finds the rules of all sources. For IPv4, a bit for each /16 says whether any
//! network has addresses in it: most addresses need one access to memory.

use std::net::IpAddr;

use super::effect::Effect;
use super::images::Images;
use super::prefix::{AddressOf, Prefix, address_bits, as_v4};
use super::ranking::{Hit, NO_RANK, Rank, Trigger};

/// The number of a network in its table.
pub(super) type NetworkId = u32;

/// No network.
const NONE: NetworkId = u32::MAX;

/// The rules on addresses of a snapshot.
#[derive(Debug, Default)]
pub(super) struct AddressRules {
    /// Those on the addresses of clients.
    pub(super) client: PrefixTable,
    /// Those on addresses in answers.
    pub(super) answer: PrefixTable,
}

impl AddressRules {
    /// The rules of these images. `verdict` returns the verdict of the rules of a source with an effect, or `None` if they do
    /// not count.
    pub(super) fn new(images: &Images, verdict: impl Fn(&str, &Effect) -> Option<u32>) -> Self {
        let (mut client, mut answer) = (Vec::new(), Vec::new());
        for (image, is_base) in [
            (&images.base, true),
            (&images.delta, false),
            (&images.orders, false),
        ] {
            let Some(image) = image else { continue };
            let (sources, clauses) = (&image.provenance().sources, image.clauses());
            for &(prefix, clause) in image.triggers().prefixes() {
                let name = &*sources[usize::from(clauses.get(clause).source)].name;
                if is_base && images.is_in_delta(name) {
                    continue;
                }
                let rules = match prefix.of {
                    AddressOf::Client => &mut client,
                    AddressOf::Answer => &mut answer,
                };
                rules
                    .extend(verdict(name, clauses.effect(clause)).map(|verdict| (prefix, verdict)));
            }
        }
        Self {
            client: PrefixTable::new(client),
            answer: PrefixTable::new(answer),
        }
    }
}

/// Networks with the verdicts of their rules.
#[derive(Debug, Default)]
pub(super) struct PrefixTable {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    /// A bit for the upper half of each IPv4 address. Empty if there is no network of IPv4.
    v4_filter: Vec<u64>,
    networks: Vec<Network>,
    /// The verdicts of the rules, those of one network in ascending order.
    verdicts: Vec<u32>,
}

#[derive(Debug)]
struct Network {
    prefix: Prefix,
    /// The smallest of the networks that contain this one, or [`NONE`].
    parent: NetworkId,
    /// Where its verdicts start; they end where those of the next network start.
    verdicts_from: u32,
}

/// The ranges of addresses that belong to the same networks.
#[derive(Debug)]
struct Ranges<A> {
    /// The first address of each range, sorted.
    starts: Vec<A>,
    /// The smallest network of each range, or [`NONE`].
    networks: Vec<NetworkId>,
}

impl<A> Default for Ranges<A> {
    fn default() -> Self {
        Self {
            starts: Vec::new(),
            networks: Vec::new(),
        }
    }
}

impl<A: Ord + Copy> Ranges<A> {
    /// Begins a range. If one begins at the same address already, it is replaced.
    fn begin(&mut self, start: A, network: NetworkId) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.networks.pop();
        }
        self.starts.push(start);
        self.networks.push(network);
    }

    #[inline]
    fn find(&self, address: A) -> Option<NetworkId> {
        let after = self.starts.partition_point(|start| *start <= address);
        let network = *self.networks.get(after.checked_sub(1)?)?;
        (network != NONE).then_some(network)
    }
}

impl PrefixTable {
    /// The table of these rules, each a network and a verdict.
    pub(super) fn new(mut rules: Vec<(Prefix, u32)>) -> Self {
        rules.sort_unstable();
        rules.dedup();
        let mut table = Self::default();
        // The networks that contain the present one, the largest first.
        let mut open = Vec::new();
        for (prefix, verdict) in rules {
            let last = table.networks.last();
            if last.is_none_or(|last| last.prefix != prefix) {
                table.close(&mut open, Some(prefix));
                table.open(&mut open, prefix);
            }
            table.verdicts.push(verdict);
        }
        table.close(&mut open, None);
        table
    }

    fn open(&mut self, open: &mut Vec<NetworkId>, prefix: Prefix) {
        let network = self.networks.len() as NetworkId;
        match as_v4(prefix.first).zip(as_v4(prefix.last())) {
            Some((first, last)) => {
                self.v4.begin(first, network);
                self.v4_filter.resize(1 << 16 >> 6, 0);
                for half in first >> 16..=last >> 16 {
                    self.v4_filter[half as usize >> 6] |= 1 << (half & 63);
                }
            }
            None => self.v6.begin(prefix.first, network),
        }
        self.networks.push(Network {
            prefix,
            parent: open.last().copied().unwrap_or(NONE),
            verdicts_from: self.verdicts.len() as u32,
        });
        open.push(network);
    }

    /// Ends the networks that do not contain `next`: after each of them, the next larger one applies again.
    fn close(&mut self, open: &mut Vec<NetworkId>, next: Option<Prefix>) {
        while let Some(&network) = open.last() {
            let Network { prefix, parent, .. } = self.networks[network as usize];
            if next.is_some_and(|next| prefix.contains(next.first)) {
                return;
            }
            open.pop();
            // There is nothing after the last address of IPv4 or of IPv6.
            match as_v4(prefix.last()) {
                Some(last) => {
                    let start = last.checked_add(1);
                    start.inspect(|start| self.v4.begin(*start, parent));
                }
                None => {
                    let start = prefix.last().checked_add(1);
                    start.inspect(|start| self.v6.begin(*start, parent));
                }
            }
        }
    }

    /// Whether there are no rules.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// All networks; each follows those that contain it.
    pub(super) fn ids(&self) -> std::ops::Range<NetworkId> {
        0..self.networks.len() as NetworkId
    }

    /// The smallest of the networks that contain a network.
    pub(super) fn parent(&self, network: NetworkId) -> Option<NetworkId> {
        self.containing(network).nth(1)
    }

    /// The smallest network of an address.
    #[inline]
    pub(super) fn find(&self, address: IpAddr) -> Option<NetworkId> {
        let bits = address_bits(address);
        match as_v4(bits) {
            Some(v4) => {
                let word = *self.v4_filter.get(v4 as usize >> 22)?;
                match word >> (v4 >> 16 & 63) & 1 {
                    0 => None,
                    _ => self.v4.find(v4),
                }
            }
            None => self.v6.find(bits),
        }
    }

    /// A network and those that contain it, the smallest first.
    pub(super) fn containing(&self, network: NetworkId) -> impl Iterator<Item = NetworkId> {
        let larger = |network: &NetworkId| {
            let parent = self.networks[*network as usize].parent;
            (parent != NONE).then_some(parent)
        };
        std::iter::successors(Some(network), larger)
    }

    /// The rules on these networks and on those that contain them, in the order of precedence. `rank` returns the rank of a
    /// verdict.
    pub(super) fn matching(
        &self,
        networks: impl Iterator<Item = NetworkId>,
        rank: impl Fn(u32) -> Rank,
        trigger: impl Fn(NetworkId) -> Trigger,
    ) -> Vec<Hit> {
        let mut rules = Vec::new();
        for network in networks.flat_map(|network| self.containing(network)) {
            let verdicts = self.verdicts(network).iter();
            rules.extend(verdicts.map(|&verdict| self.rule(rank(verdict), network, verdict)));
        }
        rules.retain(|(rank, ..)| *rank != NO_RANK);
        rules.sort_unstable();
        rules.dedup();
        rules.into_iter().map(|rule| hit(rule, &trigger)).collect()
    }

    fn rule(&self, rank: Rank, network: NetworkId, verdict: u32) -> NetworkRule {
        let prefix = self.prefix(network);
        (rank, u8::MAX - prefix.len, prefix.first, verdict, network)
    }

    /// The trigger of the rules on a network.
    pub(super) fn prefix(&self, network: NetworkId) -> Prefix {
        self.networks[network as usize].prefix
    }

    /// The verdicts of the rules on a network, in ascending order.
    pub(super) fn verdicts(&self, network: NetworkId) -> &[u32] {
        let from = |network: usize| self.networks.get(network).map(|n| n.verdicts_from as usize);
        let (network, end) = (network as usize, self.verdicts.len());
        &self.verdicts[from(network).unwrap_or(end)..from(network + 1).unwrap_or(end)]
    }
}

/// The first rules on networks that an address belongs to.
#[derive(Default)]
pub(super) struct BestNetwork {
    enforced: Option<NetworkRule>,
    /// The first one without a condition.
    covering: Option<NetworkRule>,
    /// The best rank of those with conditions, whether or not they hold.
    conditional: Option<Rank>,
    logged: Option<NetworkRule>,
}

/// How the rules with a verdict apply to a query.
pub(super) struct Applying {
    pub(super) rank: Rank,
    pub(super) is_logged_only: bool,
    pub(super) is_conditional: bool,
    /// Whether they have no condition, or it holds.
    pub(super) holds: bool,
}

/// A rule on a network, in the order of precedence: rank, prefix length (counted down), first address, verdict, network.
type NetworkRule = (Rank, u8, u128, u32, NetworkId);

impl BestNetwork {
    /// Compares the rules on a network, and on those that contain it, with the best ones so far. `applying` returns how the
    /// rules with a verdict apply; `None` if they do not count.
    #[cold]
    pub(super) fn compare(
        &mut self,
        table: &PrefixTable,
        network: NetworkId,
        applying: impl Fn(u32) -> Option<Applying>,
    ) {
        for network in table.containing(network) {
            for &verdict in table.verdicts(network) {
                if let Some(applying) = applying(verdict) {
                    self.add(table.rule(applying.rank, network, verdict), &applying);
                }
            }
        }
    }

    fn add(&mut self, rule: NetworkRule, applying: &Applying) {
        let add = |best: &mut Option<NetworkRule>| {
            *best = Some(best.map_or(rule, |best| best.min(rule)));
        };
        match applying {
            Applying { holds: false, .. } => {}
            Applying {
                is_logged_only: true,
                ..
            } => add(&mut self.logged),
            _ => add(&mut self.enforced),
        }
        match applying {
            Applying {
                is_logged_only: true,
                ..
            } => {}
            Applying {
                is_conditional: false,
                ..
            } => add(&mut self.covering),
            Applying { rank, .. } => {
                self.conditional = Some(self.conditional.map_or(*rank, |best| best.min(*rank)));
            }
        }
    }

    /// The first rule that decides.
    pub(super) fn enforced(&self, trigger: impl Fn(NetworkId) -> Trigger) -> Option<Hit> {
        self.enforced.map(|rule| hit(rule, trigger))
    }

    /// The first rule without a condition, which also applies to queries of all types for other names.
    pub(super) fn covering(&self, trigger: impl Fn(NetworkId) -> Trigger) -> Option<Hit> {
        self.covering.map(|rule| hit(rule, trigger))
    }

    /// The best rank of the rules with conditions, whether or not these hold.
    pub(super) fn conditional(&self) -> Option<Rank> {
        self.conditional
    }

    /// The first rule that would decide if its source were not logged only.
    pub(super) fn logged(&self, trigger: impl Fn(NetworkId) -> Trigger) -> Option<Hit> {
        let precedes = |logged: &NetworkRule| self.enforced.is_none_or(|best| *logged < best);
        self.logged.filter(precedes).map(|rule| hit(rule, trigger))
    }
}

fn hit((rank, _, _, verdict, network): NetworkRule, trigger: impl Fn(NetworkId) -> Trigger) -> Hit {
    Hit {
        rank,
        verdict,
        trigger: trigger(network),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{IpNet, Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use std::sync::Arc;

    use super::super::builder::Builder;
    use super::super::image::Image;
    use super::super::image::provenance::ImageSource;
    use super::*;

    /// Few addresses, so that networks often nest and touch, also at the ends of the IPv4 addresses.
    fn address() -> impl Strategy<Value = IpAddr> {
        let edge = prop::sample::select(vec![0_u32, 1, 2, 3, 255, 256, 65_535, 65_536]);
        let v4 = (edge.clone(), any::<bool>())
            .prop_map(|(edge, top)| Ipv4Addr::from(if top { !edge } else { edge }));
        let base = [
            0,
            0xFFFE << 32,
            0xFFFF << 32,
            0x1_0000 << 32,
            u128::MAX << 32,
            0x2001 << 112,
        ];
        let v6 = (prop::sample::select(base.to_vec()), edge, any::<bool>()).prop_map(
            |(base, edge, top)| {
                let low = if top { !edge } else { edge };
                Ipv6Addr::from(base | u128::from(low))
            },
        );
        prop_oneof![v4.prop_map(IpAddr::V4), v6.prop_map(IpAddr::V6)]
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        let len = prop::sample::select(vec![1_u8, 8, 15, 16, 17, 24, 30, 31, 32]);
        (address(), len).prop_filter_map("not a trigger", |(address, len)| {
            let network: IpNet = match address {
                IpAddr::V4(v4) => Ipv4Net::new(v4, len).ok()?.into(),
                IpAddr::V6(v6) => Ipv6Net::new(v6, len + 96).ok()?.into(),
            };
            Prefix::new(AddressOf::Answer, network.trunc()).ok()
        })
    }

    proptest! {
        #[test]
        fn an_address_finds_all_rules_of_its_networks_the_longest_prefix_first(
            rules in prop::collection::vec((prefix(), 0..4_u32), 0..24),
            addresses in prop::collection::vec(address(), 1..40),
        ) {
            let table = PrefixTable::new(rules.clone());
            prop_assert_eq!(table.is_empty(), rules.is_empty());
            let edges = rules.iter().flat_map(|(prefix, _)| {
                [prefix.network().network(), prefix.network().broadcast()]
            });
            for address in edges.chain(addresses) {
                let mut expected: Vec<_> = rules
                    .iter()
                    .filter(|(prefix, _)| prefix.contains(address_bits(address)))
                    .map(|(prefix, verdict)| (128 - prefix.len, *verdict))
                    .collect();
                expected.sort_unstable();
                expected.dedup();
                let mut found = Vec::new();
                for network in table.find(address).into_iter().flat_map(|id| table.containing(id)) {
                    let verdicts = table.verdicts(network).iter();
                    found.extend(verdicts.map(|verdict| (128 - table.prefix(network).len, *verdict)));
                }
                prop_assert_eq!(found, expected, "{}", address);
            }
        }
    }

    /// An image of lists, each with the third bytes of its networks in 192.0.0.0/16.
    fn image(lists: &[(&str, &[u8])]) -> Option<Arc<Image>> {
        let mut builder = Builder::new();
        for (name, networks) in lists {
            let source = builder.source(ImageSource::named(name)).expect("room");
            for third in *networks {
                let network = Ipv4Net::new(Ipv4Addr::new(192, 0, *third, 0), 24).expect("valid");
                let prefix = Prefix::new(AddressOf::Answer, network.into()).expect("valid");
                let inserted = builder.insert_prefix(prefix, source, &Effect::default());
                inserted.expect("room");
            }
        }
        Some(Arc::new(builder.finish().expect("room")))
    }

    #[test]
    fn networks_in_the_base_of_a_list_that_the_delta_has_do_not_count() {
        let images = Images {
            base: image(&[("stays", &[1]), ("moved", &[2, 3]), ("emptied", &[4])]),
            delta: image(&[("moved", &[3, 5]), ("emptied", &[])]),
            ..Images::default()
        };
        let rules = AddressRules::new(&images, |_, _| Some(0));
        let found = (0..=6).filter(|third| {
            let address = Ipv4Addr::new(192, 0, *third, 7);
            rules.answer.find(address.into()).is_some()
        });
        assert_eq!(found.collect::<Vec<_>>(), [1, 3, 5]);
        assert!(rules.client.is_empty());
    }

    #[test]
    fn a_network_that_ends_before_the_mapped_addresses_ends_there() {
        let network: IpNet = "::fffe:0:0/96".parse().expect("a network");
        let prefix = Prefix::new(AddressOf::Client, network).expect("valid");
        let table = PrefixTable::new(vec![(prefix, 7)]);
        let find = |text: &str| table.find(text.parse().expect("an address"));
        assert!(find("::fffe:ffff:ffff").is_some());
        assert!(find("::ffff:0:0").is_none() && find("::1:0:0:0").is_none());
    }
}
