//! Converts orders and exceptions to sources of the policy, and compiles all their rules, in force or not, into one
//! image.

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

/// The `except` names of an order are a source of their own. The name of that source is the name of the order's source
/// with this suffix.
const EXCEPT: &str = "/except";

/// The language of a public text if the order has none in the configured language.
const ENGLISH: &str = "en";

/// The rules of orders and exceptions, as many as an image has room for.
struct Compiled {
    /// Their image; `None` if there are none.
    image: Option<Image>,
    /// Whether an order did not fit.
    orders_missing: bool,
    /// The number of exceptions that did not fit.
    exceptions_missing: usize,
}

/// Replaces `rules` by the rules of all orders and exceptions. Returns an alarm, one sentence, if some of them don't
/// fit.
///
/// Orders have priority over exceptions: a missing exception blocks too much, a missing order too little. If not all
/// orders fit, the rules stay unchanged, so that a new order never displaces one in force.
pub(super) fn renew<'o, O: Iterator<Item = &'o Order>>(
    rules: &mut Option<Arc<Image>>,
    orders: impl Fn() -> O,
    exceptions: impl Iterator<Item = &'o Exception>,
) -> Option<String> {
    let all = "orders and exceptions";
    let full = format!("no room for more than {SOURCES} {all}");
    let stay = "the previous ones stay in force; remove some";
    match compile(orders(), exceptions) {
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
        // No rules are in force yet: orders without exceptions are better than neither.
        Err(error) => {
            let alone = compile(orders(), std::iter::empty());
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

fn compile<'o>(
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

/// All rules with the names of their sources, grouped by source.
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

/// The source of an order's targets.
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
            effect_answer: None,
            as_written: false,
            sinkhole_v4,
            sinkhole_v6,
            ttl_secs: default.ttl_secs,
            ede: default.ede,
            extra_text: public_text(order, &config.language),
        },
        against: Against::All,
        allows_across: false,
        zone: None,
    }
}

/// The EXTRA-TEXT of an order's blocked answers, in `language` or the closest language that the order has.
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

/// The source of an order's `except` names, an exception against that order; `None` if it has no such names.
pub(super) fn except_source(order: &Order) -> Option<Source> {
    let any = order.targets.iter().any(|target| !target.except.is_empty());
    any.then(|| Source {
        name: except_name(order),
        against: Against::Named(vec![order_name(order)]),
        ..exception_in(order.path.clone())
    })
}

/// The source of an exception, given its index among all exceptions, which makes its name unique.
pub(super) fn exception_source(number: usize, exception: &Exception) -> Source {
    Source {
        name: exception_name(number, exception),
        against: exception.against.clone(),
        ..exception_in(exception.path.clone())
    }
}

/// An exception against all sources, without a name.
fn exception_in(path: std::path::PathBuf) -> Source {
    Source {
        name: String::new(),
        path,
        kind: Kind::Exception,
        blocking: Blocking::none(),
        against: Against::All,
        allows_across: false,
        zone: None,
    }
}

fn order_name(order: &Order) -> String {
    format!("{}{}", Source::ORDER, order.id)
}

fn except_name(order: &Order) -> String {
    format!("{}{}{EXCEPT}", Source::ORDER, order.id)
}

pub(super) fn exception_name(number: usize, exception: &Exception) -> String {
    let name = exception.scope.notation(&exception.name);
    format!("{}{name}#{number}", Source::EXCEPTION)
}

/// A warning about a valid exception.
pub(super) struct Remark<'e> {
    exception: &'e Exception,
    target: Target<'e>,
}

/// The sources that an exception overrides and that a warning is about.
enum Target<'e> {
    AllOrders,
    /// A source of this name does not exist.
    Unknown(&'e str),
    /// The order with this source name.
    Order(&'e str),
}

impl Display for Remark<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Exception {
            path, line, name, ..
        } = self.exception;
        let path = path.shown();
        write!(f, "{path}:{line}: the exception for {name} overrides ")?;
        match self.target {
            Target::AllOrders => write!(f, "all orders, too"),
            Target::Unknown(name) => write!(f, "`{name}`, which is unknown"),
            Target::Order(name) => write!(f, "an authority's {name}"),
        }
    }
}

/// The remarks on an exception. `known` returns whether there is a source with this name.
pub(super) fn remarks<'e>(
    exception: &'e Exception,
    known: impl Fn(&str) -> bool,
) -> Vec<Remark<'e>> {
    let remark = |target| Remark { exception, target };
    let Against::Named(names) = &exception.against else {
        return vec![remark(Target::AllOrders)];
    };
    let target = |name: &'e String| match (known(name), name.starts_with(Source::ORDER)) {
        (false, _) => Some(Target::Unknown(name)),
        (true, true) => Some(Target::Order(name)),
        (true, false) => None,
    };
    names.iter().filter_map(target).map(remark).collect()
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
    fn a_new_order_does_not_displace_one_in_force() {
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
            alarm.ends_with("the previous ones stay in force; remove some"),
            "{alarm}"
        );
        assert!(has(rules.as_ref(), "old") && !has(rules.as_ref(), "new-0"));
        // At a start no rules are in force: as many orders as fit are better than none.
        let mut fresh = None;
        let alarm = renew(&mut fresh, || orders.iter(), [].iter()).expect("an alarm");
        assert!(alarm.contains("the last ones are not in force"), "{alarm}");
        assert!(has(fresh.as_ref(), "new-0"));
    }
}
