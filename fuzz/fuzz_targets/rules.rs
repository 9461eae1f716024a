//! Random rules, and an image of them. Most labels come from a small set, so that names nest and collide.

use std::sync::Arc;

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use tapis::policy::builder::Builder;
use tapis::policy::effect::{Effect, EffectAction};
use tapis::policy::image::Image;
use tapis::policy::image::path::Key;
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::rule::{Action, Scope};
use tapis::wire::name::Name;

/// The number of sources.
pub(crate) const LISTS: u16 = 3;

/// Rules, and the seed of the hash of their image.
#[derive(Debug, Arbitrary)]
pub(crate) struct Rules {
    pub(crate) seed: u64,
    pub(crate) rules: Vec<Rule>,
    /// The number of extra children of one node, which fill many buckets.
    crowd: u16,
}

/// A rule on a name.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: Name,
    pub(crate) list: u16,
    pub(crate) scope: Scope,
    pub(crate) effect: Effect,
}

impl<'a> Arbitrary<'a> for Rule {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let bits = u8::arbitrary(input)?;
        Ok(Self {
            name: name(input)?,
            list: u16::from(bits) % LISTS,
            scope: [Scope::Exact, Scope::Below, Scope::Subtree][usize::from(bits / 4 % 3)],
            effect: effect(bits / 12),
        })
    }
}

/// One of a few effects, most often the default one.
fn effect(number: u8) -> Effect {
    let action = match number % 8 {
        0 => EffectAction::Allow,
        1 => EffectAction::Block(Action::Nxdomain),
        2 => EffectAction::Block(Action::Drop),
        3 => EffectAction::TcpOnly,
        4 => EffectAction::Cname {
            target: Arc::new(Name::from_text("garden.test").expect("a name")),
            prepend: true,
        },
        _ => EffectAction::Source,
    };
    Effect {
        action,
        ..Effect::default()
    }
}

/// A name of up to twelve labels, most of them short and common.
pub(crate) fn name(input: &mut Unstructured<'_>) -> Result<Name> {
    let mut wire = vec![0];
    for _ in 0..input.int_in_range(0..=12)? {
        let label: Vec<u8> = match input.int_in_range(0..=9)? {
            0 => {
                let size = input.int_in_range(1..=63)?;
                input.bytes(size.min(input.len().max(1)))?.to_vec()
            }
            1 => vec![b'x'; input.int_in_range(1..=63)?],
            at => [&b"a"[..], b"b", b"com", b"www", b"x-1", b"_t", b"aa", b"ab"][at - 2].to_vec(),
        };
        let longer = [&[label.len() as u8], &*label, &*wire].concat();
        if Name::parse(&longer, 0).is_err() {
            break;
        }
        wire = longer;
    }
    Ok(Name::parse(&wire, 0).map_or(Name::ROOT, |(name, _)| name))
}

/// The path of the name's ancestor with this number of labels.
pub(crate) fn path(name: &Name, labels: usize) -> Vec<u8> {
    let labels = name.labels_from_root().take(labels);
    labels
        .flat_map(|label| [&[label.len() as u8], label].concat())
        .collect()
}

impl Rules {
    /// All rules, including those of the extra children.
    pub(crate) fn all(&self) -> impl Iterator<Item = Rule> {
        let crowd = (0..self.crowd % 600).map(|number| Rule {
            name: Name::from_text(&format!("{number}.com")).expect("a name"),
            list: number % LISTS,
            scope: Scope::Exact,
            effect: Effect::default(),
        });
        self.rules.iter().cloned().chain(crowd)
    }

    /// The names that have rules.
    pub(crate) fn names(&self) -> impl Iterator<Item = Name> {
        self.all().map(|rule| rule.name)
    }

    /// An image of the rules.
    pub(crate) fn image(&self) -> Image {
        self.image_of([true; LISTS as usize])
    }

    /// An image of the rules of those lists that it `has`.
    pub(crate) fn image_of(&self, has: [bool; LISTS as usize]) -> Image {
        let mut builder = Builder::keyed(Key::new(self.seed));
        let sources = (0..LISTS).map(|list| {
            let source = ImageSource::named(&list.to_string());
            has[usize::from(list)].then(|| builder.source(source).expect("few"))
        });
        let sources: Vec<_> = sources.collect();
        for rule in self.all() {
            let Some(source) = sources[usize::from(rule.list)] else {
                continue;
            };
            let path = path(&rule.name, rule.name.label_count());
            builder
                .insert_path(&path, source, rule.scope, &rule.effect)
                .expect("room");
        }
        builder.finish().expect("room")
    }
}
