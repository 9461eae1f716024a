//! One generation of the policy: the rules in all views, the local zones, and the clients that are served.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::clients::Clients;
use super::effect::Effect;
use super::images::Images;
use super::local::LocalNames;
use super::precedence::{Precedence, suppressed};
use super::prefixes::AddressRules;
use super::ranking::{LookupResult, MAX_SOURCES};
use super::ranks::ClauseVerdict;
use super::rule::{Against, Kind, Source};
use super::rules::Rules;
use super::verdicts::{Verdicts, precedence};
use super::view::{LookupKey, MAX_VIEWS, View};
use crate::wire::name::Name;

/// An immutable state of the policy. Every change is a new snapshot with a new generation.
#[derive(Debug)]
pub struct Snapshot {
    /// Increases with each published snapshot; the first is 1.
    pub generation: u64,
    /// The clients that are served.
    pub clients: Clients,
    /// Names that are answered locally, and zones that have their own servers.
    pub local: Arc<LocalNames>,
    /// Answer to `version.bind`, class CH; refused if `None`.
    pub version: Option<String>,
    /// Answer to `id.server`, class CH; refused if `None`.
    pub id: Option<String>,
    /// Sorted by kind.
    pub(super) sources: Vec<Arc<Source>>,
    /// The sorted indices of the policy zones that spare signed answers.
    pub(super) sparing: Vec<usize>,
    pub(super) verdicts: Verdicts,
    /// The precedence of rules in each view, the default view first.
    pub(super) views: Vec<Precedence>,
    /// The hit counter of each source.
    pub(super) slots: Vec<Option<u16>>,
    pub(super) rules: Rules,
    pub(super) addresses: AddressRules,
}

impl Default for Snapshot {
    /// Generation 0: no client is served and nothing is blocked.
    fn default() -> Self {
        Self {
            generation: 0,
            clients: Clients::default(),
            local: Arc::new(LocalNames::special_use(&[], true)),
            version: None,
            id: None,
            sources: Vec::new(),
            sparing: Vec::new(),
            verdicts: Verdicts::default(),
            views: vec![Precedence::default()],
            slots: Vec::new(),
            rules: Rules::default(),
            addresses: AddressRules::default(),
        }
    }
}

impl Snapshot {
    /// The same snapshot with the rules of `sources`, which are given in the order of the configuration.
    /// Exceptions take precedence over orders, orders over allow lists, and allow lists over block lists.
    /// Among sources of one kind, the earlier one in `sources` takes precedence. Rules of sources that are not
    /// given do not count. Images refer to sources by name.
    pub fn with_rules(self, sources: Vec<Arc<Source>>, images: Images) -> Self {
        self.with_views(sources, images, &[])
    }

    /// Like [`with_rules`](Self::with_rules), with more views. The first one has the [`ViewId`](super::view::ViewId) 1: 0 is
    /// the default view.
    ///
    /// # Panics
    /// If there are more than [`MAX_VIEWS`].
    pub fn with_views(
        mut self,
        mut sources: Vec<Arc<Source>>,
        images: Images,
        views: &[View],
    ) -> Self {
        assert!(
            views.len() <= MAX_VIEWS,
            "a snapshot has at most MAX_VIEWS views"
        );
        if sources.len() > MAX_SOURCES {
            // Sources without rules cannot decide.
            let named = images.source_names();
            sources.retain(|source| named.contains(&*source.name));
        }
        sources.sort_by_key(|source| precedence(source.kind));
        let index: HashMap<_, _> = sources
            .iter()
            .map(|source| source.name.as_str())
            .zip(0..)
            .collect();
        let verdicts = Verdicts::new(&sources, &index, &images, views);
        let overrides = |source: usize| {
            let of = &sources[source];
            of.kind == Kind::Exception && of.against != Against::All
        };
        self.addresses = AddressRules::new(&images, |name, effect| {
            let source = *index.get(name)?;
            // An exception against some sources decides nothing.
            (!overrides(source)).then(|| verdicts.number(source, effect))
        });
        let verdict = |name: &str, effect: &Effect| {
            let source = *index.get(name)?;
            Some(ClauseVerdict {
                source: source as u32,
                verdict: verdicts.number(source, effect),
                overrides: overrides(source),
            })
        };
        let mut rules = Rules::new(images, suppressed(&sources, &index), verdict);
        let views = std::iter::once(None).chain(views.iter().map(Some));
        let views = views.map(|view| {
            let precedence = Precedence::new(&sources, &index, &verdicts, view);
            rules.add_view(|source, tier| {
                let source = source as usize;
                precedence.tier_rank(source, tier, &sources[source], &verdicts)
            });
            precedence
        });
        self.views = views.collect();
        let indexed = sources.iter().enumerate();
        let sparing = indexed.filter(|(_, source)| source.spares_signed());
        self.sparing = sparing.map(|(index, _)| index).collect();
        self.rules = rules;
        self.verdicts = verdicts;
        self.sources = sources;
        self
    }

    /// The same snapshot with the hit counter that `slot` returns for the name of each source. Hits of a
    /// source are not counted if it returns `None`.
    pub fn with_slots(mut self, mut slot: impl FnMut(&str) -> Option<u16>) -> Self {
        // An exception blocks nothing.
        let counted = |source: &Arc<Source>| source.kind != Kind::Exception;
        let mut place = |source| counted(source).then(|| slot(&source.hits_name())).flatten();
        self.slots = self.sources.iter().map(&mut place).collect();
        self
    }

    /// The sources, sorted by kind: exceptions, orders, allow lists, block lists.
    pub fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// The compiled rules of its sources. The images may have rules of other lists, too.
    pub fn images(&self) -> Images {
        self.rules.images()
    }

    /// Whether `client` is served.
    pub fn permits(&self, client: IpAddr) -> bool {
        self.clients.contains(client)
    }

    /// Looks up a batch of names in the default view for queries of type A, which is faster than one by one: `found[i]` is the
    /// result for `names[i]`, to be passed to [`PolicyView::decide_by`](super::decide::PolicyView::decide_by). Allocates only
    /// if more than four rules of exceptions match a name, or if the condition of a rule with a pattern does not hold.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn lookup(&self, names: &[&Name], found: &mut [LookupResult]) {
        self.rules.lookup(names, found);
    }

    /// Like [`lookup`](Self::lookup), with a view and a type for each name.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn lookup_in(&self, names: &[&Name], keys: &[LookupKey], found: &mut [LookupResult]) {
        self.rules.lookup_in(names, keys, found);
    }
}
