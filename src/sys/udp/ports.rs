//! Local ports of sockets that send queries, drawn at random from a range.

use std::ops::RangeInclusive;

use rand::{Rng, RngExt};

/// The ports to draw from. The range is wider than the kernel's own (`ip_local_port_range`), from
/// which it would pick one of some 28,000 (RFC 6056, section 3.2).
#[derive(Clone, Debug)]
pub struct Ports {
    range: RangeInclusive<u16>,
    except: Vec<u16>,
}

impl Default for Ports {
    /// All that need no privilege.
    fn default() -> Self {
        Self::new(1024..=u16::MAX, Vec::new())
    }
}

impl Ports {
    /// Those of `range`, apart from `except`, which must leave some.
    pub fn new(range: RangeInclusive<u16>, except: Vec<u16>) -> Self {
        Self { range, except }
    }

    /// A random one.
    pub fn draw(&self, random: &mut impl Rng) -> u16 {
        loop {
            let port = random.random_range(self.range.clone());
            // The exceptions are a handful of at least a thousand.
            if !self.except.contains(&port) {
                return port;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_drawn_from_the_whole_range_but_for_those_that_are_taken() {
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
    }
}
