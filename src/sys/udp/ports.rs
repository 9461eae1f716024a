//! Random local ports for sockets that send queries.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rand::{Rng, RngExt};

/// The ports to draw from. The range is wider than the kernel's own (`ip_local_port_range`), from
/// which it would choose one of some 28,000 (RFC 6056, section 3.2).
#[derive(Debug)]
pub struct Ports(ArcSwap<Choice>);

#[derive(Debug)]
struct Choice {
    range: RangeInclusive<u16>,
    except: Vec<u16>,
}

impl Default for Ports {
    /// All ports that need no privilege.
    fn default() -> Self {
        Self::new(1024..=u16::MAX, Vec::new())
    }
}

impl Ports {
    /// The ports of `range` without those in `except`. At least one port must remain.
    pub fn new(range: RangeInclusive<u16>, except: Vec<u16>) -> Self {
        Self(ArcSwap::from_pointee(Choice { range, except }))
    }

    /// Changes the ports that later draws choose from.
    pub fn replace(&self, range: RangeInclusive<u16>, except: Vec<u16>) {
        self.0.store(Arc::new(Choice { range, except }));
    }

    /// A random port.
    pub fn draw(&self, random: &mut impl Rng) -> u16 {
        let choice = self.0.load();
        loop {
            let port = random.random_range(choice.range.clone());
            // There are a handful of exceptions among at least a thousand ports.
            if !choice.except.contains(&port) {
                return port;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_drawn_from_the_whole_range_without_the_exceptions() {
        let ports = Ports::new(2000..=2003, vec![2001]);
        let mut seen = [0; 4];
        for _ in 0..1000 {
            seen[usize::from(ports.draw(&mut rand::rng()) - 2000)] += 1;
        }
        assert_eq!(seen[1], 0);
        assert!(
            seen.iter().filter(|&&count| count > 200).count() == 3,
            "{seen:?}"
        );
        ports.replace(3000..=3001, vec![3000]);
        assert_eq!(ports.draw(&mut rand::rng()), 3001);
    }
}
