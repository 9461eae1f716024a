//! Owns what orders and exceptions become for the policy: sources, and one image of all their rules.
//! Refuses to know which of them are in force.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use crate::config::Orders;
use crate::config::exception::Exception;
use crate::config::order::Order;
use crate::config::shown::{Show, counted};
use crate::policy::builder::Builder;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::values::SOURCES;
use crate::policy::image::{Image, TooLarge};
use crate::policy::rule::{Against, Blocking, Kind, Scope, Source};
use crate::wire::name::Name;

/// What an order's own exceptions are called behind its name.
const EXCEPT: &str = "/except";

/// The language of last resort.
const ENGLISH: &str = "en";

/// The rules of orders and exceptions, as many as an image has room for.
struct Compiled {
    /// Their image; `None` if there are none.
    image: Option<Image>,
    /// An order did not fit.
    orders_missing: bool,
    /// How many exceptions did not fit.
    exceptions_missing: usize,
}

/// Replaces the rules in force by those of all orders and exceptions. Returns what of them is not in
/// force, as a sentence: an alarm.
///
/// Orders come first: without room for an exception more is blocked than should be, without room for
/// an order less. An order in force never gives way to a new one.
pub(super) fn renew<'o, O: Iterator<Item = &'o Order>>(
    rules: &mut Option<Arc<Image>>,
    orders: impl Fn() -> O,
    exceptions: impl Iterator<Item = &'o Exception>,
) -> Option<String> {
    let all = "orders and exceptions";
    let full = format!("no room for more than {SOURCES} {all}");
    let stay = "the ones before stay in force; remove some";
    match image(orders(), exceptions) {
        Ok(compiled) if compiled.orders_missing && rules.is_some() => {
            Some(format!("{all}: {full}; {stay}"))
        }
        Ok(compiled) => {
            *rules = compiled.image.map(Arc::new);
            match (compiled.orders_missing, compiled.exceptions_missing) {
                (false, 0) => None,
                (false, count) => Some(format!(
                    "{all}: {full}; the last {} not in force; remove some, or use an allow list",
                    counted(count, "exception is", "exceptions are")
                )),
                (true, _) => Some(format!(
                    "{all}: {full}; the last ones are not in force; remove some"
                )),
            }
        }
        Err(error) if rules.is_some() => Some(format!("{all}: {error}; {stay}")),
        // Nothing was in force before: rather orders without exceptions than none of both.
        Err(error) => {
            let alone = image(orders(), std::iter::empty());
            let left = match alone {
                Ok(alone) => {
                    *rules = alone.image.map(Arc::new);
                    "exceptions are not in force"
                }
                Err(_) => "none are in force",
            };
            Some(format!("{all}: {error}; {left}; remove some"))
        }
    }
}

fn image<'o>(
    orders: impl Iterator<Item = &'o Order>,
    exceptions: impl Iterator<Item = &'o Exception>,
) -> Result<Compiled, TooLarge> {
    let mut builder = Builder::new();
    let mut last: Option<(String, u16)> = None;
    let (mut orders_missing, mut exceptions_missing) = (false, 0);
    for (name, owner, scope) in all(orders, exceptions) {
        let source = match &last {
            Some((last, source)) if *last == name => *source,
            _ => match builder.source(ImageSource::named(&name)) {
                Ok(source) => source,
                Err(_) if name.starts_with(Source::EXCEPTION) => {
                    exceptions_missing += 1;
                    continue;
                }
                Err(_) => {
                    orders_missing = true;
                    continue;
                }
            },
        };
        builder.insert(owner, source, scope)?;
        last = Some((name, source));
    }
    Ok(Compiled {
        image: last.map(|_| builder.finish()).transpose()?,
        orders_missing,
        exceptions_missing,
    })
}

/// All rules with the names of their sources, those of one source together.
pub(super) fn all<'o>(
    orders: impl Iterator<Item = &'o Order>,
    exceptions: impl Iterator<Item = &'o Exception>,
) -> impl Iterator<Item = (String, &'o Name, Scope)> {
    let orders = orders.flat_map(|order| {
        let targets = order.targets.iter();
        let rules = targets.map(move |target| (order_name(order), &target.name, target.scope));
        let except = order.targets.iter().flat_map(|target| &target.except);
        rules.chain(except.map(move |except| (except_name(order), &except.name, except.scope)))
    });
    let exceptions = exceptions.enumerate().map(|(number, exception)| {
        let name = exception_name(number, exception);
        (name, &exception.name, exception.scope)
    });
    orders.chain(exceptions)
}

/// An order as decisions see it.
pub(super) fn order_source(order: &Order, config: &Orders) -> Source {
    let default = &config.blocking;
    let (sinkhole_v4, sinkhole_v6) = match &order.sinkhole {
        Some((v4, v6)) => (v4.clone(), v6.clone()),
        None => (default.sinkhole_v4.clone(), default.sinkhole_v6.clone()),
    };
    Source {
        name: order_name(order),
        path: order.path.clone(),
        kind: Kind::Order,
        blocking: Blocking {
            action: order.action.unwrap_or(default.action),
            sinkhole_v4,
            sinkhole_v6,
            ttl_secs: default.ttl_secs,
            ede: default.ede,
            extra_text: public_text(order, &config.language),
        },
        against: Against::All,
    }
}

/// What those who meet an order's block are told.
fn public_text(order: &Order, language: &str) -> String {
    let texts = &order.public_text;
    let primary = language.split('-').next().unwrap_or(language);
    let preferred = [language, primary, ENGLISH];
    let text = preferred.iter().find_map(|language| texts.get(*language));
    match text.or_else(|| texts.values().next()) {
        Some(text) => format!("order {}: {text}", order.id),
        None => format!("order {}", order.id),
    }
}

/// What of its targets an order is not about; nothing if it has no such names.
pub(super) fn except_source(order: &Order) -> Option<Source> {
    let any = order.targets.iter().any(|target| !target.except.is_empty());
    any.then(|| Source {
        name: except_name(order),
        against: Against::Named(vec![order_name(order)]),
        ..truthful(order.path.clone())
    })
}

/// An exception as decisions see it, given its place among all.
pub(super) fn exception_source(number: usize, exception: &Exception) -> Source {
    Source {
        name: exception_name(number, exception),
        against: exception.against.clone(),
        ..truthful(exception.path.clone())
    }
}

fn truthful(path: std::path::PathBuf) -> Source {
    Source {
        name: String::new(),
        path,
        kind: Kind::Exception,
        blocking: Blocking::none(),
        against: Against::All,
    }
}

fn order_name(order: &Order) -> String {
    format!("{}{}", Source::ORDER, order.id)
}

fn except_name(order: &Order) -> String {
    format!("{}{}{EXCEPT}", Source::ORDER, order.id)
}

pub(super) fn exception_name(number: usize, exception: &Exception) -> String {
    let (name, sign) = (&exception.name, exception.scope.sign());
    format!("{}{sign}{name}#{number}", Source::EXCEPTION)
}

/// What an operator should know of an exception that is right all the same.
pub(super) struct Remark<'e> {
    exception: &'e Exception,
    why: Why<'e>,
}

enum Why<'e> {
    AllOrders,
    Unknown(&'e str),
    Authority(&'e str),
}

impl Display for Remark<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Exception {
            path, line, name, ..
        } = self.exception;
        let path = path.shown();
        write!(f, "{path}:{line}: the exception for {name} overrides ")?;
        match self.why {
            Why::AllOrders => write!(f, "all orders, too"),
            Why::Unknown(name) => write!(f, "`{name}`, which is unknown"),
            Why::Authority(name) => write!(f, "an authority's {name}"),
        }
    }
}

/// The remarks on an exception.
pub(super) fn remarks<'e>(
    exception: &'e Exception,
    known: impl Fn(&str) -> bool,
) -> Vec<Remark<'e>> {
    let remark = |why| Remark { exception, why };
    let Against::Named(names) = &exception.against else {
        return vec![remark(Why::AllOrders)];
    };
    let why = |name: &'e String| match (known(name), name.starts_with(Source::ORDER)) {
        (false, _) => Some(Why::Unknown(name)),
        (true, true) => Some(Why::Authority(name)),
        (true, false) => None,
    };
    names.iter().filter_map(why).map(remark).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn order(id: &str, name: &str) -> Order {
        let text = format!(
            "id = \"{id}\"\nlegal-basis = [\"law\"]\nissued-at = 2026-01-01T00:00:00Z\n\
             review-at = 2027-01-01T00:00:00Z\n[authority]\nname = \"A\"\n[reason]\nen = \"r\"\n\
             [redress]\nhow = \"write\"\n[[targets]]\nname = \"{name}\"\nscope = \"exact\"\n"
        );
        Order::parse(&text, Path::new("x.toml")).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn exceptions(count: usize) -> Vec<Exception> {
        let exception = |number| Exception {
            name: Name::from_text(&format!("x{number}.test")).expect("a name"),
            scope: Scope::Exact,
            against: Against::All,
            reason: "r".to_owned(),
            author: "a".to_owned(),
            until: None,
            path: "exceptions.toml".into(),
            line: 1,
        };
        (0..count).map(exception).collect()
    }

    fn has(rules: Option<&Arc<Image>>, source: &str) -> bool {
        let sources = rules.iter().flat_map(|image| &image.provenance().sources);
        sources.into_iter().any(|known| known.name.contains(source))
    }

    #[test]
    fn orders_are_in_force_however_many_exceptions_there_are() {
        let orders = [order("x-1", "one.test"), order("x-2", "two.test")];
        let mut rules = None;
        let many = exceptions(SOURCES + 3);
        let alarm = renew(&mut rules, || orders.iter(), many.iter()).expect("an alarm");
        assert!(alarm.contains("65535 orders and exceptions"), "{alarm}");
        assert!(
            alarm.contains("the last 5 exceptions are not in force"),
            "{alarm}"
        );
        assert!(has(rules.as_ref(), "x-1") && has(rules.as_ref(), "x-2"));
        assert!(has(rules.as_ref(), "x0.test#0"));
        let few = exceptions(1);
        assert_eq!(renew(&mut rules, || orders.iter(), few.iter()), None);
    }

    #[test]
    fn an_order_in_force_does_not_give_way_to_a_new_one() {
        let mut orders = vec![order("old", "old.test")];
        let mut rules = None;
        assert_eq!(renew(&mut rules, || orders.iter(), [].iter()), None);
        let new = |number| {
            let mut order = orders[0].clone();
            order.id = format!("new-{number}");
            let name = format!("new-{number}.test");
            order.targets[0].name = Name::from_text(&name).expect("a name");
            order
        };
        let new: Vec<_> = (0..SOURCES).map(new).collect();
        orders.splice(0..0, new);
        let alarm = renew(&mut rules, || orders.iter(), [].iter()).expect("an alarm");
        assert!(
            alarm.ends_with("the ones before stay in force; remove some"),
            "{alarm}"
        );
        assert!(has(rules.as_ref(), "old") && !has(rules.as_ref(), "new-0"));
        // At a start there are none before: as many as fit are better than none.
        let mut fresh = None;
        let alarm = renew(&mut fresh, || orders.iter(), [].iter()).expect("an alarm");
        assert!(alarm.contains("the last ones are not in force"), "{alarm}");
        assert!(has(fresh.as_ref(), "new-0"));
    }
}
