//! Policy zones in compiled images.

use super::plans::{folder, open, plan, reported, run};
use crate::config::Format;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::image::path::Path;
use crate::policy::rule::Scope;

#[test]
fn a_policy_zone_keeps_rules_that_others_cover_because_a_transfer_may_remove_the_others() {
    let zone = "$ORIGIN rpz.\n@ SOA . . 1 60 60 600 60\na.test CNAME .\n*.a.test CNAME .\n\
                x.a.test CNAME .\n";
    let folder = folder(&[("zone", zone), ("ads", ".a.test\nx.a.test\n")]);
    let at = folder.path();
    let mut first = plan(at, "first", &["zone", "ads"]);
    first.lists[0].format = Format::Rpz;
    run(&first);
    let mut second = plan(at, "second", &["ads", "zone"]);
    second.base = Some(first.out.clone());
    second.lists[1].read = false;
    run(&second);
    for out in [&first.out, &second.out] {
        assert_eq!(
            reported(out),
            ["ads a.test", "zone a.test", "zone x.a.test"]
        );
        let image = open(out);
        let zone = image.provenance().source("zone").expect("a source");
        assert_eq!((zone.amendable, zone.rules), (true, 3));
    }
}

#[test]
fn the_records_of_one_owner_are_one_rule_wherever_they_are_in_a_policy_zone() {
    let record = |zone: &str| format!("{zone} A 192.0.2.1\n");
    let far: String = (0..50).map(|n| record(&format!("n{n}.test"))).collect();
    let zone = format!(
        "$ORIGIN rpz.\n@ SOA . . 1 60 60 600 60\na.test A 192.0.2.9\n32.1.2.0.192.rpz-ip TXT \"one\"\n{far}\
         a.test AAAA 2001:db8::1\n*.a.test A 192.0.2.7\na.test A 192.0.2.3\n32.1.2.0.192.rpz-ip A 192.0.2.5\n"
    );
    let folder = folder(&[("zone", &zone)]);
    let mut plan = plan(folder.path(), "image", &["zone"]);
    plan.lists[0].format = Format::Rpz;
    run(&plan);
    let image = open(&plan.out);
    let records = |effect: &Effect| match &effect.action {
        EffectAction::Records(records) => records.iter().map(ToString::to_string).collect(),
        other => vec![format!("{other:?}")],
    };
    let mut rules = Vec::new();
    let mut cursor = image.cursor();
    while cursor.advance() {
        let name = Path::of(cursor.path()).to_name().to_string();
        if name.starts_with("a.") {
            for rule in cursor.rules() {
                let effect = image.clauses().effect(rule.clause);
                rules.push((rule.scope, records(effect)));
            }
        }
    }
    rules.sort_by_key(|(scope, _)| *scope != Scope::Exact);
    let own = [
        "3600 A 192.0.2.3",
        "3600 A 192.0.2.9",
        "3600 AAAA 2001:db8::1",
    ];
    let below = ["3600 A 192.0.2.7"];
    let texts = |all: &[&str]| {
        all.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        rules,
        [(Scope::Exact, texts(&own)), (Scope::Below, texts(&below))]
    );
    let networks = image.triggers().prefixes();
    let on_networks = networks
        .iter()
        .map(|(_, clause)| records(image.clauses().effect(*clause)));
    assert_eq!(
        on_networks.collect::<Vec<_>>(),
        [["3600 A 192.0.2.5", "3600 TXT \"one\""]]
    );
}
