//! Names that stand for all names below another name. A pattern has no name that could be looked up, so it is tried on these.

use crate::policy::patterns::{NameText, PatternSet};
use crate::wire::name::Name;

/// Important public suffixes: those of all countries, and others under which many names are. The whole Public Suffix List
/// can be asked for a name, but not listed.
pub(super) const SUFFIXES: &str = "
    com net org info biz edu gov mil int name mobi pro xyz online site top shop app dev cloud live store club blog tech
    space website icu vip
    ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf
    cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf
    gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km
    kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz
    na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg
    sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc
    ve vg vi vn vu wf ws ye yt za zm zw
    co.uk org.uk ac.uk gov.uk me.uk ltd.uk com.au net.au org.au gov.au edu.au co.nz org.nz govt.nz ac.nz
    co.id go.id or.id ac.id sch.id web.id my.id net.id com.my gov.my com.sg gov.sg com.ph gov.ph co.th go.th ac.th
    com.vn gov.vn com.br gov.br org.br net.br com.ar gob.ar com.mx gob.mx com.co gov.co com.pe gob.pe com.ve com.ec
    co.jp ne.jp or.jp go.jp ac.jp co.kr or.kr go.kr ac.kr com.cn net.cn org.cn gov.cn edu.cn com.tw gov.tw com.hk gov.hk
    co.in net.in org.in gov.in ac.in com.pk gov.pk com.lk com.tr gov.tr org.tr com.ua gov.ua
    com.pl net.pl org.pl gov.pl co.at or.at gv.at com.es gob.es com.pt gov.pt gouv.fr gov.it edu.it com.gr gov.gr
    co.za org.za gov.za com.ng gov.ng co.ke go.ke co.tz co.ug com.gh com.eg gov.eg com.sa gov.sa co.il org.il gov.il
";

/// Labels of unrelated names, and labels below them. The names of two entries have no letter in common, and differ in their
/// length, so a pattern that matches all of them does so because of the names that they are below, or matches most names.
const LABELS: [[&str; 2]; 3] = [
    ["rumok", "kumo"],
    ["bantivy", "vatina"],
    ["fleshwedge", "shelf"],
];

/// Labels that important names often have.
const USUAL: [&str; 3] = ["www", "mail", "login"];

/// The patterns of a set that match names below `parent`: all sampled names right below it, all that are deeper, or all that
/// have the same usual label below the sampled one.
pub(super) fn matching_below(set: &PatternSet, parent: &Name) -> Vec<usize> {
    let matching_all = |labels: &dyn Fn(usize) -> String| {
        let mut matching = matching(set, &labels(0), parent);
        for which in 1..LABELS.len() {
            if matching.is_empty() {
                break;
            }
            let other = self::matching(set, &labels(which), parent);
            matching.retain(|pattern| other.binary_search(pattern).is_ok());
        }
        matching
    };
    let mut found = matching_all(&|which| LABELS[which][0].to_owned());
    found.extend(matching_all(&|which| {
        let [label, below] = LABELS[which];
        format!("{below}.{label}")
    }));
    for usual in USUAL {
        found.extend(matching_all(&|which| {
            let [label, _] = LABELS[which];
            format!("{usual}.{label}")
        }));
    }
    found
}

/// The patterns of a set that match one of the names below `parent` that are often used.
pub(super) fn matching_usual(set: &PatternSet, parent: &Name) -> Vec<usize> {
    let usual = USUAL.iter();
    usual
        .flat_map(|label| matching(set, label, parent))
        .collect()
}

/// The patterns of a set that match the name with these labels below `parent`. None if it would be too long.
fn matching(set: &PatternSet, labels: &str, parent: &Name) -> Vec<usize> {
    let name = Name::from_text(&format!("{labels}.{parent}"));
    name.map_or_else(|_| Vec::new(), |name| set.find_all(&NameText::new(&name)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::names::public_suffix::{Covered, Section, covered};

    #[test]
    fn each_suffix_is_one_of_a_registry_and_is_there_once() {
        let mut known = HashSet::new();
        for suffix in SUFFIXES.split_whitespace() {
            let name = Name::from_text(suffix).expect("a name");
            let expected = match name.label_count() {
                1 => Covered::TopLevel,
                _ => Covered::Itself,
            };
            assert_eq!(covered(&name), Some((expected, Section::Icann)), "{suffix}");
            assert!(known.insert(suffix), "{suffix} is there twice");
        }
    }

    #[test]
    fn sampled_names_have_no_letter_in_common() {
        let mut known = HashSet::new();
        for labels in LABELS {
            let letters: HashSet<_> = labels.concat().chars().collect();
            for letter in letters {
                assert!(known.insert(letter), "{letter}");
            }
        }
    }

    #[test]
    fn patterns_that_are_wide_below_a_name_are_found() {
        let parent = Name::from_text("co.id").expect("a name");
        for (pattern, expected) in [
            (r"\.id$", true),
            (r"(^|\.)co", true),
            (r"^[a-z]{4,12}\.co\.id$", true),
            (r"^[^.]+\.[^.]+\.co\.id$", true),
            (r"^[a-z]{7}\.co\.id$", false),
            (r"^ad.*\.co\.id$", false),
            (r"rumok", false),
            (r"(^|\.)www\.", true),
            (r"^www", true),
            (r"^(mail|ads)\.", true),
            (r"^ads\.", false),
        ] {
            let set = PatternSet::new([pattern]).expect("valid");
            let found = !matching_below(&set, &parent).is_empty();
            assert_eq!(found, expected, "{pattern}");
        }
    }
}
