//! Signed transfers from NSD, BIND and Knot DNS. They need Debian's packages nsd, bind9 and knot, so they only run on
//! request: `cargo test --test it -- --ignored`.

use tapis::control::sources::feeds::fault::Fault;
use tapis::wire::transfer::Kind;
use tapis::wire::transfer::tsig::{Algorithm, Key};

use super::harness::{Collected, LIMITS, Wanted, fetch};
use crate::support::peers::{KNOT_KEY, Peer, policy_zone};
use crate::support::primary::name;
use crate::support::signer::SECRET;

/// The names of the zone: each has its `*.`, so that the zone needs several messages.
const NAMES: usize = 3000;

fn transfer(peer: &Peer) {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512, Algorithm::Sha1] {
        let words = [("ALGORITHM", algorithm.name()), ("SECRET", SECRET)];
        let program = peer
            .clone()
            .with(&words)
            .start(&[("zone", &policy_zone(7, NAMES))]);
        let key = Key::new(&name("transfer.key"), algorithm, &[7; 32]).expect("a key");
        let mut wanted = Wanted {
            key: Some(&key),
            ..Wanted::default()
        };
        wanted.limits.records = 10 * LIMITS.records;
        for ours in [None, Some(6)] {
            wanted.ours = ours;
            let mut sink = Collected::default();
            let fetched = fetch(program.address, wanted, &mut sink).expect("transferred");
            assert_eq!((fetched.kind, fetched.soa.serial.0), (Kind::Whole, 7));
            assert_eq!(sink.names().len(), 2 * NAMES + 1);
            assert!(sink.messages.len() > 1);
        }
        wanted.ours = Some(7);
        let fetched = fetch(program.address, wanted, &mut Collected::default());
        assert_eq!(fetched.expect("answered").kind, Kind::UpToDate);
        wanted.ours = Some(8);
        let older = fetch(program.address, wanted, &mut Collected::default());
        assert_eq!(older.expect_err("a fault"), Some(Fault::SerialGoneBack));

        let other = Key::new(&name("transfer.key"), algorithm, &[8; 32]).expect("a key");
        (wanted.key, wanted.ours) = (Some(&other), None);
        let forged = fetch(program.address, wanted, &mut Collected::default());
        assert_eq!(forged.expect_err("a fault"), Some(Fault::TsigWrong));
        wanted.key = None;
        let unsigned = fetch(program.address, wanted, &mut Collected::default());
        let fault = unsigned.expect_err("a fault").expect("of the primary");
        assert!(
            matches!(fault, Fault::Refused | Fault::NotServed),
            "{fault}"
        );
    }
}

#[test]
#[ignore = "needs nsd"]
fn nsd_sends_a_signed_zone() {
    let sections = "\
key:
  name: \"transfer.key\"
  algorithm: ALGORITHM
  secret: \"SECRET\"
zone:
  name: \"feed.test\"
  zonefile: \"zone\"
  provide-xfr: 127.0.0.1 transfer.key
";
    transfer(&Peer::nsd("", sections));
}

#[test]
#[ignore = "needs named"]
fn bind_sends_a_signed_zone() {
    let sections = "\
key \"transfer.key\" { algorithm ALGORITHM; secret \"SECRET\"; };
zone \"feed.test\" { type primary; file \"DIR/zone\"; };
";
    let options = "  recursion no;\n  allow-transfer { key \"transfer.key\"; };\n";
    transfer(&Peer::bind(options, sections));
}

#[test]
#[ignore = "needs knotd"]
fn knot_dns_sends_a_signed_zone() {
    let sections = "\
zone:
  - domain: feed.test
    file: DIR/zone
    acl: transfer
";
    transfer(&Peer::knot(&[KNOT_KEY, sections].concat()));
}
