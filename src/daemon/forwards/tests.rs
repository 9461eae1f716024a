//! Which pools a configuration has, and what a change of the configuration does to them.

use super::*;
use crate::serve::cache::Key;
use crate::serve::routes::PoolId;
use crate::wire::rtype;

/// The pools that a configuration with these sections has, besides the default one.
struct Scene {
    source: ForwardSource,
    cache: Cache,
}

fn config(sections: &str) -> Config {
    let text = format!("[upstream]\nservers = [\"192.0.2.1\"]\n{sections}");
    Config::parse(&text, std::path::Path::new("tapis.toml")).expect("a valid configuration")
}

fn section(zone: &str, server: &str) -> String {
    format!("[[forward]]\nzone = \"{zone}\"\nservers = [\"{server}\"]\n")
}

impl Scene {
    fn new(sections: &str) -> Self {
        let config = config(sections);
        let counters = Arc::<Counters>::default();
        let ports = Arc::<Ports>::default();
        let network = Arc::new(Network::new(1, Arc::clone(&ports), Arc::clone(&counters)));
        let upstreams = Upstreams::find(&config).expect("an address");
        let pool = upstreams.pool(&config, &network, Arc::clone(&ports), &counters);
        let scene = Self {
            source: ForwardSource {
                pools: Arc::new(Pools::new(Arc::new(pool))),
                network,
                ports,
                counters,
            },
            cache: Cache::new(1 << 20, 0),
        };
        scene.replace(sections, Former::Go);
        scene
    }

    fn replace(&self, sections: &str, former: Former) {
        let config = config(sections);
        let forwards = Forwards::find(&config).expect("addresses");
        self.source.replace(&config, &forwards, former, &self.cache);
    }

    fn pool_of(&self, name: &str) -> PoolId {
        let name = Name::from_text(name).expect("a name");
        self.source.pools.of(&Key::of(&name, rtype::A)).id()
    }

    fn count(&self) -> usize {
        self.source.pools.forwarding().pools().len()
    }
}

#[test]
fn sections_with_equal_servers_and_timeouts_share_a_pool() {
    let mut sections: String = (0..3000)
        .map(|number| section(&format!("z{number}.example"), "192.0.2.7"))
        .collect();
    sections += &section("other.example", "192.0.2.8");
    sections += &(section("slow.example", "192.0.2.7") + "timeout-ms = 900\n");
    let scene = Scene::new(&sections);
    assert_eq!(scene.count(), 3);
    let pools =
        ["z0", "z2999", "other", "slow"].map(|zone| scene.pool_of(&format!("{zone}.example")));
    assert_eq!(pools[0], pools[1]);
    assert!(pools[2] != pools[0] && pools[3] != pools[0] && pools[3] != pools[2]);
}

#[test]
fn servers_that_stay_keep_their_pool_when_zones_and_timeouts_change() {
    let (corp, lab) = (
        section("corp.example", "192.0.2.7"),
        section("lab.example", "192.0.2.8"),
    );
    let scene = Scene::new(&(corp.clone() + &lab));
    let before = ["corp.example", "lab.example"].map(|zone| scene.pool_of(zone));
    let more = section("more.example", "192.0.2.7");
    scene.replace(
        &(lab.clone() + "timeout-ms = 900\n" + &more + &corp),
        Former::Go,
    );
    let after = ["corp.example", "lab.example"].map(|zone| scene.pool_of(zone));
    assert_eq!(before, after);
    assert_eq!(scene.pool_of("more.example"), before[0]);
    scene.replace(&section("corp.example", "192.0.2.9"), Former::Go);
    assert_ne!(scene.pool_of("corp.example"), before[0]);
    assert_eq!(scene.pool_of("lab.example"), PoolId::DEFAULT);
}

#[test]
fn until_a_new_policy_is_in_force_no_name_of_the_former_and_the_new_zones_is_sent_to_others() {
    let (corp, lab) = (
        section("corp.example", "192.0.2.7"),
        section("lab.example", "192.0.2.8"),
    );
    let scene = Scene::new(&corp);
    let of_corp = scene.pool_of("corp.example");
    scene.replace(&lab, Former::Stay);
    assert_eq!(scene.pool_of("corp.example"), of_corp);
    let of_lab = scene.pool_of("lab.example");
    assert_ne!(of_lab, PoolId::DEFAULT);
    scene.replace(&lab, Former::Go);
    assert_eq!(scene.pool_of("corp.example"), PoolId::DEFAULT);
    assert_eq!(scene.pool_of("lab.example"), of_lab);
}
