//! Owns what orders and exceptions become for the policy: sources, and one image of all their rules.
//! Refuses to know which of them are in force.

use crate::config::Orders;
use crate::config::exception::Exception;
use crate::config::order::Order;
use crate::policy::builder::Builder;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::{Image, TooLarge};
use crate::policy::rule::{Against, Blocking, Kind, Scope, Source};
use crate::wire::name::Name;

/// What an order's own exceptions are called behind its name.
const EXCEPT: &str = "/except";

/// The language of last resort.
const ENGLISH: &str = "en";

/// The rules of all orders and exceptions; nothing if there are none.
///
/// # Errors
/// When they are too many.
pub(super) fn image<'o>(
    orders: impl Iterator<Item = &'o Order>,
    exceptions: impl Iterator<Item = &'o Exception>,
) -> Result<Option<Image>, TooLarge> {
    let mut builder = Builder::new();
    let mut last: Option<(String, u16)> = None;
    for (name, owner, scope) in all(orders, exceptions) {
        let source = match &last {
            Some((last, source)) if *last == name => *source,
            _ => builder.source(ImageSource::named(&name))?,
        };
        builder.insert(owner, source, scope)?;
        last = Some((name, source));
    }
    last.map(|_| builder.finish()).transpose()
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
pub(super) fn remarks(exception: &Exception, known: impl Fn(&str) -> bool) -> Vec<String> {
    let (place, line) = (exception.path.display(), exception.line);
    let told = format!("{place}:{line}: the exception for {}", exception.name);
    let Against::Named(names) = &exception.against else {
        return vec![format!("{told} stands against all orders, too")];
    };
    let remark = |name: &String| match (known(name), name.starts_with(Source::ORDER)) {
        (false, _) => Some(format!("{told} stands against `{name}`, which is not here")),
        (true, true) => Some(format!("{told} stands against an authority's {name}")),
        (true, false) => None,
    };
    names.iter().filter_map(remark).collect()
}
