//! Fuzzes the loader with damaged images. An image is rejected if its digests do not match. If they match, the image
//! may have any content: it is rejected, the cursor reports damage, or lookups find only rules that the cursor reads.
//!
//! `cargo +nightly fuzz run image fuzz/corpus/image`
#![no_main]

mod rules;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use rules::Rules;
use tapis::policy::builder::Builder;
use tapis::policy::decide::Decision;
use tapis::policy::effect::Effect;
use tapis::policy::explain::{Place, Role};
use tapis::policy::image::text::TextCode;
use tapis::policy::image::walk::Position;
use tapis::policy::image::{Image, ImageBytes};
use tapis::policy::images::Images;
use tapis::policy::prefix::{AddressOf, Prefix};
use tapis::policy::rule::{Against, Blocking, Kind, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::policy::view::{Mode, View, ViewId, ViewList};
use tapis::wire::name::Name;

/// Offsets of the section table and of the header's digest: see `policy::image::layout`.
const TABLE: usize = 128;
const ENTRY: usize = 48;
const SEAL: usize = 992;

#[derive(Debug, Arbitrary)]
struct Input {
    rules: Rules,
    networks: Vec<Network>,
    /// Texts of patterns. If one of them is not accepted, the input is skipped.
    patterns: Vec<String>,
    wrong: Vec<Wrong>,
    /// Make the digests match, so that the content is checked.
    seal: bool,
    asked: Vec<Vec<u8>>,
}

/// A network as the trigger of a rule.
#[derive(Debug, Arbitrary)]
struct Network {
    is_client: bool,
    address: IpAddr,
    len: u8,
    list: u8,
}

impl Network {
    fn prefix(&self) -> Option<Prefix> {
        let of = match self.is_client {
            true => AddressOf::Client,
            false => AddressOf::Answer,
        };
        let network = IpNet::new(self.address, self.len).ok()?;
        Prefix::new(of, network.trunc()).ok()
    }
}

#[derive(Debug, Arbitrary)]
enum Wrong {
    Byte { at: u32, xor: u8 },
    Number { at: u32, number: u32 },
    Cut { at: u32 },
    Header { at: u16, xor: u8 },
}

fuzz_target!(|input: &[u8]| {
    // An input that is too short for its parts is skipped.
    let _ = run(&mut Unstructured::new(input));
});

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let input = Input::arbitrary(input)?;
    let Some(image) = image(&input) else {
        return Ok(());
    };
    let mut bytes = image.bytes().to_vec();
    for wrong in &input.wrong {
        let len = bytes.len();
        match *wrong {
            Wrong::Byte { at, xor } if len > 0 => bytes[at as usize % len] ^= xor,
            Wrong::Number { at, number } if len > 4 => {
                let at = at as usize % (len - 4);
                bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            Wrong::Cut { at } => bytes.truncate(at as usize),
            Wrong::Header { at, xor } if len > SEAL => bytes[usize::from(at) % SEAL] ^= xor,
            _ => {}
        }
    }
    if input.seal {
        seal(&mut bytes, &image);
    }
    let same = bytes == image.bytes();
    let Ok(read) = Image::open(ImageBytes::Heap(bytes)) else {
        assert!(!same, "what was written can be read");
        return Ok(());
    };
    assert!(same || input.seal, "wrong bytes are detected");
    // Whatever its content, it can be put in force, as a delta with a prefilter.
    let read = Arc::new(read);
    let images = Images {
        delta: Some(Arc::clone(&read)),
        ..Images::default()
    };
    let sources = read.provenance().sources.iter().map(|source| {
        Arc::new(Source {
            name: source.name.clone(),
            path: source.path.clone(),
            kind: Kind::Block,
            blocking: Blocking::none(),
            against: Against::All,
            allows_across: false,
            zone: None,
        })
    });
    let view = View {
        lists: vec![ViewList {
            name: "1".to_owned(),
            mode: Mode::LogOnly,
            action: None,
        }],
    };
    let in_force = Snapshot::default().with_views(sources.collect(), images, &[view]);
    // An image counts the pairs of bytes in its labels. The next image uses these counts for the Huffman code of
    // its labels.
    let lengths = read.pair_histogram().lengths();
    assert!(
        TextCode::new(&lengths).is_some(),
        "any histogram yields a code"
    );
    // Lookups find only what the cursor reads.
    let mut values = HashMap::<_, Vec<u32>>::new();
    let mut cursor = read.cursor();
    while cursor.advance() {
        let of = values.entry(cursor.path().to_vec()).or_default();
        of.push(cursor.number());
    }
    if cursor.damage().is_some() {
        // Opening does not check texts; reading them reports the damage.
        assert!(!same, "what was written can be read");
        return Ok(());
    }
    let asked: Vec<Name> = input
        .asked
        .iter()
        .filter_map(|wire| Name::parse(wire, 0).ok().map(|(name, _)| name))
        .chain(input.rules.names())
        .collect();
    // Whatever the damaged image contains, decisions return, and agree with the explanations.
    let mut addresses: Vec<_> = input
        .networks
        .iter()
        .map(|network| network.address)
        .collect();
    addresses.push(IpAddr::from([192, 0, 2, 1]));
    for (name, address) in asked.iter().zip(addresses.iter().cycle()) {
        for view in [ViewId::DEFAULT, ViewId(1)] {
            let policy = in_force.view(view).for_client(*address);
            let places = policy.explain(name, &asked[..asked.len().min(3)], &addresses);
            let blocks = |place: &Place<'_>| matches!(place.decision, Decision::Blocked { .. });
            let (last, before) = places.split_last().expect("the queried name");
            assert!(!before.iter().any(blocks), "nothing is asked after a block");
            let is_blocked = blocks(&places[0]);
            assert_eq!(
                matches!(policy.decide(name), Decision::Blocked { .. }),
                is_blocked && before.is_empty()
            );
            let roles = last.rules.iter().filter(|(_, role)| *role == Role::Decides);
            assert!(roles.count() <= 1);
        }
    }
    let asked: Vec<&Name> = asked.iter().collect();
    read.walk(&asked, |which, position, labels, value| {
        let some = read.value(value).rules().next().is_some();
        if position != Position::Below && some {
            let path = rules::path(asked[which], labels);
            let read = values
                .get(&path)
                .is_some_and(|values| values.contains(&value));
            assert!(read, "{}: {value}", asked[which]);
        }
    });
    Ok(())
}

/// The image of all rules of the input.
fn image(input: &Input) -> Option<Image> {
    let names = input.rules.image();
    if input.networks.is_empty() && input.patterns.is_empty() {
        return Some(names);
    }
    let mut builder = Builder::keyed(names.key().clone());
    for source in &names.provenance().sources {
        builder.source(source.clone()).ok()?;
    }
    builder.add_image(&names, Some).ok()?;
    for network in &input.networks {
        if let Some(prefix) = network.prefix() {
            let list = u16::from(network.list) % rules::LISTS;
            builder
                .insert_prefix(prefix, list, &Effect::default())
                .ok()?;
        }
    }
    for (number, pattern) in input.patterns.iter().enumerate() {
        let list = number as u16 % rules::LISTS;
        builder
            .insert_pattern(pattern, list, &Effect::default())
            .ok()?;
    }
    builder.finish().ok()
}

/// Makes the digests match the bytes. Stops at the first section that is not there in full.
fn seal(bytes: &mut [u8], image: &Image) {
    for (index, (_, extent)) in image.extents().enumerate() {
        let at = TABLE + index * ENTRY + 16;
        let Some(section) = bytes.get(extent.offset..extent.offset + extent.len) else {
            return;
        };
        let digest = blake3::hash(section);
        bytes[at..at + 32].copy_from_slice(digest.as_bytes());
    }
    let digest = blake3::hash(&bytes[..SEAL]);
    bytes[SEAL..SEAL + 32].copy_from_slice(digest.as_bytes());
}
