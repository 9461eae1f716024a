//! Builds an image in memory from rules in any order.

use std::io::Cursor;

use super::effect::Effect;
use super::image::clauses::ClausesBuilder;
use super::image::path::{Key, Path};
use super::image::provenance::{ImageSource, Provenance};
use super::image::run::Run;
use super::image::text::PairHistogram;
use super::image::triggers::Triggers;
use super::image::values::{ImageRule, SOURCES};
use super::image::writer::Writer;
use super::image::{Image, ImageBytes, TooLarge, WriteError};
use super::prefix::Prefix;
use super::rule::Scope;
use crate::wire::name::Name;

/// Collects the rules of some sources and makes an [`Image`] of them.
pub struct Builder {
    key: Key,
    run: Run,
    histogram: PairHistogram,
    clauses: ClausesBuilder,
    triggers: Triggers,
    sources: Vec<ImageSource>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A builder without sources.
    pub fn new() -> Self {
        Self::keyed(Key::random())
    }

    /// A builder without sources whose image is hashed with `key`. With the key of an image whose rules are added, these
    /// need not be sorted again.
    pub fn keyed(key: Key) -> Self {
        Self {
            key,
            run: Run::new(),
            histogram: PairHistogram::default(),
            clauses: ClausesBuilder::default(),
            triggers: Triggers::default(),
            sources: Vec::new(),
        }
    }

    /// Adds a source and returns the number by which its rules refer to it.
    ///
    /// # Errors
    /// If there are 65,535 sources already.
    pub fn source(&mut self, source: ImageSource) -> Result<u16, TooLarge> {
        let number = self.sources.len();
        if number >= SOURCES {
            return Err(TooLarge::Sources);
        }
        match (source.amends, source.amendable) {
            (true, _) => self.clauses.set_amended(number as u16),
            (false, true) => self.clauses.set_amendable(number as u16),
            (false, false) => {}
        }
        self.sources.push(source);
        Ok(number as u16)
    }

    /// Adds a rule with the effect of its source. Adding an equal rule again changes nothing.
    ///
    /// # Errors
    /// If there is no room; rules added before are kept.
    pub fn insert(&mut self, name: &Name, source: u16, scope: Scope) -> Result<(), TooLarge> {
        self.insert_effect(name, source, scope, &Effect::default())
    }

    /// Adds a rule with an effect.
    ///
    /// # Errors
    /// If there is no room, or no answer can carry the effect; rules added before are kept.
    pub fn insert_effect(
        &mut self,
        name: &Name,
        source: u16,
        scope: Scope,
        effect: &Effect,
    ) -> Result<(), TooLarge> {
        self.insert_path(Path::from(name).as_bytes(), source, scope, effect)
    }

    /// Adds a rule on a name, given as the bytes of a [`Path`].
    ///
    /// # Errors
    /// If there is no room, or no answer can carry the effect; rules added before are kept.
    pub fn insert_path(
        &mut self,
        path: &[u8],
        source: u16,
        scope: Scope,
        effect: &Effect,
    ) -> Result<(), TooLarge> {
        let owner = || Path::of(path).to_name();
        let named = |error| TooLarge::RuleEffect {
            owner: owner().to_string().into(),
            error,
        };
        effect.check_trigger(owner, scope).map_err(named)?;
        let clause = self.clauses.add(source, effect);
        let clause = clause.map_err(|error| match error {
            TooLarge::Effect(error) => named(error),
            error => error,
        })?;
        self.histogram.count(path);
        let rule = ImageRule { clause, scope };
        self.run.push(&self.key, path, rule.to_bits())
    }

    /// Voids the rules that a source has in the base on exactly this name, given as the bytes of a [`Path`]. The source
    /// must have been added as one that [`amends`](ImageSource::amends). The rules that it is to have on the name are then
    /// added as any others.
    ///
    /// # Errors
    /// If there is no room; rules added before are kept.
    pub fn amend(&mut self, path: &[u8], source: u16) -> Result<(), TooLarge> {
        self.insert_path(path, source, Scope::Exact, &Effect::void())
    }

    /// Declares that none of the rules is left that a source has in the base on names below this one. Otherwise lookups
    /// count this name as one of the zone, and wildcards on names above do not match it. The names below still need their
    /// marks. See [`amend`](Self::amend) for the source and the name.
    ///
    /// # Errors
    /// If there is no room; rules added before are kept.
    pub fn amend_below(&mut self, path: &[u8], source: u16) -> Result<(), TooLarge> {
        self.insert_path(path, source, Scope::Below, &Effect::void())
    }

    /// Adds a rule on a network.
    ///
    /// # Errors
    /// If there is no room, or no answer can carry the effect; rules added before are kept.
    pub fn insert_prefix(
        &mut self,
        prefix: Prefix,
        source: u16,
        effect: &Effect,
    ) -> Result<(), TooLarge> {
        let clause = self.clauses.add(source, effect)?;
        self.triggers.add_prefix(prefix, clause)
    }

    /// Adds a rule with a pattern, which is checked when the image is made: see [`PatternSet`](super::patterns::PatternSet).
    ///
    /// # Errors
    /// If there is no room, or no answer can carry the effect; rules added before are kept.
    pub fn insert_pattern(
        &mut self,
        pattern: &str,
        source: u16,
        effect: &Effect,
    ) -> Result<(), TooLarge> {
        let clause = self.clauses.add(source, effect)?;
        self.triggers.add_pattern(pattern, clause);
        Ok(())
    }

    /// Adds a source of which only the name is known, and its rules.
    ///
    /// # Errors
    /// If there is no room.
    pub fn list<'n>(
        &mut self,
        name: &str,
        rules: impl IntoIterator<Item = (&'n Name, Scope)>,
    ) -> Result<(), TooLarge> {
        let number = self.source(ImageSource::named(name))?;
        let mut rules = rules.into_iter();
        rules.try_for_each(|(name, scope)| self.insert(name, number, scope))
    }

    /// Adds the rules of an image. `source` maps the image's source numbers to those of this builder. Rules of
    /// a source for which `source` returns `None` are left out.
    ///
    /// # Errors
    /// If there is no room.
    pub fn add_image(
        &mut self,
        image: &Image,
        source: impl Fn(u16) -> Option<u16>,
    ) -> Result<(), TooLarge> {
        let mut cursor = image.cursor();
        while cursor.advance() {
            for rule in cursor.rules() {
                if let Some(source) = source(image.source_of(rule)) {
                    let effect = image.clauses().effect(rule.clause);
                    self.insert_path(cursor.path(), source, rule.scope, effect)?;
                }
            }
        }
        self.add_triggers(image, source)
    }

    /// Like [`add_image`](Self::add_image), but adds only those rules that have a network or a pattern as trigger.
    ///
    /// # Errors
    /// If there is no room.
    pub fn add_triggers(
        &mut self,
        image: &Image,
        source: impl Fn(u16) -> Option<u16>,
    ) -> Result<(), TooLarge> {
        let (old, clauses) = (image.clauses(), &mut self.clauses);
        self.triggers.carry(image.triggers(), |clause| {
            let source = source(old.get(clause).source);
            let new = source.map(|source| clauses.add(source, old.effect(clause)));
            new.transpose()
        })
    }

    /// The image of all rules added.
    ///
    /// # Errors
    /// If there are too many rules for one image, or a pattern is not accepted.
    ///
    /// # Panics
    /// If a rule was added with the number of a source that [`source`](Self::source) did not return.
    pub fn finish(mut self) -> Result<Image, TooLarge> {
        self.run.sort(&self.key);
        let bytes = self.write().map_err(|error| match error {
            WriteError::TooLarge(error) => error,
            WriteError::Io(error) => unreachable!("writing to memory does not fail: {error}"),
        })?;
        let image = Image::open(ImageBytes::Heap(bytes));
        Ok(image.expect("an image that was written can be opened"))
    }

    fn write(self) -> Result<Vec<u8>, WriteError> {
        let Self {
            key,
            run,
            histogram,
            clauses,
            triggers,
            sources,
        } = self;
        let mut writer = Writer::new(Cursor::new(Vec::new()), key, histogram, clauses)?;
        writer.add_triggers(triggers, |source| &sources[usize::from(source)].name)?;
        let mut name: (&[u8], Vec<u32>) = (&[], Vec::new());
        for (path, rule) in run.rules() {
            if path != name.0 && !name.1.is_empty() {
                writer.push(name.0, &name.1)?;
                name.1.clear();
            }
            name.0 = path;
            if name.1.last() != Some(&rule) {
                name.1.push(rule);
            }
        }
        if !name.1.is_empty() {
            writer.push(name.0, &name.1)?;
        }
        let provenance = Provenance {
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: jiff::Timestamp::now(),
            sources,
        };
        let (bytes, _) = writer.finish(&provenance)?;
        Ok(bytes.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::effect::{EffectAction, EffectError};
    use crate::policy::prefix::AddressOf;
    use crate::policy::record::LocalRecord;

    #[test]
    fn an_effect_that_no_answer_can_carry_is_refused_with_the_name_of_its_rule() {
        let name = |text: &str| Name::from_text(text).expect("a name");
        let add = |scope, action| {
            let effect = Effect {
                action,
                ..Effect::default()
            };
            let mut builder = Builder::new();
            let source = builder.source(ImageSource::default()).expect("few");
            builder.insert_effect(&name("x.example"), source, scope, &effect)
        };
        let refused = |scope, action| match add(scope, action) {
            Err(TooLarge::RuleEffect { owner, error }) => Some((owner.into_string(), error)),
            _ => None,
        };
        let to = |target: &str, prepend| EffectAction::Cname {
            target: Arc::new(name(target)),
            prepend,
        };
        let itself = Some(("x.example".to_owned(), EffectError::CnameToItself));
        assert_eq!(refused(Scope::Exact, to("X.example", false)), itself);
        let record = LocalRecord {
            rtype: 5,
            ttl_secs: None,
            data: b"\x01x\x07example\x00"[..].into(),
        };
        let records = EffectAction::Records(vec![record]);
        assert_eq!(refused(Scope::Exact, records), itself);
        let root = Some(("x.example".to_owned(), EffectError::PrependToRoot));
        assert_eq!(refused(Scope::Below, to(".", true)), root);
        // These rules lead names below x.example to it, or x.example to another name.
        assert_eq!(add(Scope::Subtree, to("x.example", false)), Ok(()));
        assert_eq!(add(Scope::Exact, to("x.example", true)), Ok(()));
        assert_eq!(add(Scope::Exact, to("y.example", false)), Ok(()));
    }

    #[test]
    fn records_of_one_name_are_joined_at_once() {
        let mut builder = Builder::new();
        let source = builder.source(ImageSource::named("l")).expect("few");
        let name = Name::from_text("x.example").expect("a name");
        for number in 0..2000_u16 {
            let [high, low] = number.to_be_bytes();
            let address = std::net::Ipv4Addr::new(192, 0, high, low);
            let record = LocalRecord::address(address.into());
            let effect = EffectAction::Records(vec![record]).into();
            let added = builder.insert_effect(&name, source, Scope::Exact, &effect);
            added.expect("room");
        }
        let image = builder.finish().expect("room");
        let records = |effect: &Effect| match &effect.action {
            EffectAction::Records(records) => records.len(),
            _ => 0,
        };
        let largest = image
            .clauses()
            .iter()
            .map(|(_, effect)| records(effect))
            .max();
        assert_eq!(largest, Some(2000));
        // One effect for each line and one for all, but none for each step between them.
        assert_eq!(image.clauses().len(), 2001);
    }

    #[test]
    fn a_builder_accepts_as_many_sources_as_a_value_counts() {
        let mut builder = Builder::new();
        let mut source = || builder.source(ImageSource::default());
        for number in 0..u16::MAX {
            assert_eq!(source(), Ok(number));
        }
        assert_eq!(source(), Err(TooLarge::Sources));
    }

    #[test]
    fn only_an_amended_source_has_marks_and_only_on_names() {
        let path = Path::from(&Name::from_text("x.example").expect("a name"));
        type Add<'a> = &'a dyn Fn(&mut Builder) -> Result<(), TooLarge>;
        let built = |amends, add: Add<'_>| {
            let mut builder = Builder::new();
            let source = ImageSource {
                amends,
                ..ImageSource::named("zone")
            };
            builder.source(source)?;
            add(&mut builder)?;
            builder.finish()
        };
        let image = built(true, &|builder| builder.amend(path.as_bytes(), 0));
        assert_eq!(image.map(|image| image.facts().rules), Ok(1));
        let refused = |built: Result<Image, TooLarge>| match built {
            Err(TooLarge::Effect(error) | TooLarge::RuleEffect { error, .. }) => Some(error),
            _ => None,
        };
        let void = Effect::void();
        let with_ttl = Effect {
            ttl_secs: Some(1),
            ..void.clone()
        };
        let network = "192.0.2.0/24".parse().expect("a network");
        let network = Prefix::new(AddressOf::Answer, network).expect("valid");
        let adds: [(bool, Add<'_>); 5] = [
            (false, &|builder| builder.amend(path.as_bytes(), 0)),
            (true, &|builder| {
                builder.insert_path(path.as_bytes(), 0, Scope::Subtree, &void)
            }),
            (true, &|builder| {
                builder.insert_path(path.as_bytes(), 0, Scope::Exact, &with_ttl)
            }),
            (true, &|builder| builder.insert_prefix(network, 0, &void)),
            (true, &|builder| builder.insert_pattern("ads", 0, &void)),
        ];
        for (amends, add) in adds {
            assert_eq!(refused(built(amends, add)), Some(EffectError::Void));
        }
    }

    #[test]
    fn the_usual_pair_of_an_amendable_source_takes_one_entry() {
        let rules = |amendable| {
            let mut builder = Builder::new();
            let source = ImageSource {
                amendable,
                ..ImageSource::named("zone")
            };
            let source = builder.source(source).expect("few");
            for (text, scope) in [
                ("x.example", Scope::Exact),
                ("x.example", Scope::Below),
                ("y.x.example", Scope::Exact),
            ] {
                let name = Name::from_text(text).expect("a name");
                builder.insert(&name, source, scope).expect("room");
            }
            let facts = *builder.finish().expect("room").facts();
            (facts.rules, facts.pruned)
        };
        // Without amendments, the rule on the name below is covered.
        assert_eq!(rules(false), (2, 1));
        assert_eq!(rules(true), (2, 1));
    }
}
