//! A host without a kernel, to be asked what would change.

use std::net::IpAddr;

use xlb_common::{maps::Backend, next_hop::NextHop, slot::SlotWord};
use xlb_control::config::{Pool, overrides};

use crate::diff::*;
use crate::{
    engine::goal::World,
    plan::{self, Intent, Op, PoolActual, PoolPlan},
    ring, slots,
};

pub(super) const KEY: [u8; 16] = [7; 16];
const NOW_S: u32 = 1_000;

pub(super) const HEAD: &str = "[dataplane]\ninterfaces = [\"eth0\"]\n";

/// A pool of backends with these last numbers of their addresses, and weights.
pub(super) fn pool(name: &str, more: &str, backends: &[(u8, u16)]) -> String {
    let list: Vec<String> = backends
        .iter()
        .map(|(last, weight)| {
            format!("{{ address = \"10.0.1.{last}\", port = 8080, weight = {weight} }}")
        })
        .collect();
    format!(
        "[[pool]]\nname = \"{name}\"\nring_slots = 1021\n{more}\nbackends = [{}]\n",
        list.join(", ")
    )
}

pub(super) fn service(name: &str, more: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\nvip = \"192.0.2.10\"\n{more}\n")
}

pub(super) const WEB: &str = "port = 80\nforward = \"ipip\"\npool = \"web\"";
pub(super) const DNS: &str = "port = 53\nprotocol = \"udp\"\nforward = \"ipip\"\npool = \"web\"";

pub(super) fn config(parts: &[String]) -> Merged {
    let text = HEAD.to_owned() + &parts.concat();
    let loaded = Config::parse("test.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    overrides::apply(&loaded.config, &[])
}

struct AllWell;

impl World for AllWell {
    fn intent(&self, _pool: &str, _endpoint: SocketAddr) -> Intent {
        Intent::Serve
    }
    fn is_well(&self, _pool: &Pool, _endpoint: SocketAddr) -> bool {
        true
    }
    fn next_hop(&self, _address: IpAddr) -> (NextHop, Option<IpAddr>) {
        (NextHop::new([2, 0, 0, 0, 0, 1], 1), None)
    }
}

/// A pool as it stands in maps.
#[derive(Clone, Default)]
pub(super) struct Live {
    pub(super) words: Vec<SlotWord>,
    backends: Vec<(u16, Backend)>,
}

impl Live {
    fn plan(&self, config: &Config, pool: &Pool) -> PoolPlan {
        let goal = goal::of_pool(1, config, pool, &AllWell);
        let actual = PoolActual {
            backends: &self.backends,
            words: &self.words,
        };
        let mut next = 100 + self.backends.len() as u16;
        plan::plan_pool(
            actual,
            &goal,
            |members, out| ring::build(KEY, members, out),
            NOW_S,
            || {
                next += 1;
                Some(next)
            },
        )
        .unwrap()
    }

    fn carry_out(&mut self, plan: &PoolPlan) {
        for op in &plan.ops {
            match *op {
                Op::WriteBackend { number, entry } => self.backends.push((number, entry)),
                Op::UpdateBackend { number, entry } => {
                    let known = self.backends.iter_mut().find(|(known, _)| *known == number);
                    known.unwrap().1 = entry;
                }
                Op::Moving { .. } => {}
                Op::Slot(write) => slots::apply(&mut self.words, &[write]),
            }
        }
    }

    pub(super) fn number(&self, last: u8) -> u16 {
        let endpoint = SocketAddr::from(([10, 0, 1, last], 8080));
        let known = self
            .backends
            .iter()
            .find(|(_, entry)| crate::endpoint::of(entry) == endpoint);
        known.unwrap().0
    }
}

/// A host with a configuration in force.
pub(super) struct Host {
    pub(super) merged: Merged,
    pub(super) pools: BTreeMap<String, Live>,
    pub(super) recorded: Recorded,
}

impl Host {
    pub(super) fn new(parts: &[String]) -> Self {
        let mut host = Self {
            merged: config(&[]),
            pools: BTreeMap::new(),
            recorded: Recorded::new(),
        };
        host.apply(config(parts));
        host
    }

    fn live(&self, pool: &Pool) -> Live {
        let kept = self.pools.get(&pool.name);
        kept.filter(|live| live.words.len() == pool.ring_slots as usize)
            .cloned()
            .unwrap_or_else(|| Live {
                words: vec![SlotWord::default(); pool.ring_slots as usize],
                backends: Vec::new(),
            })
    }

    pub(super) fn apply(&mut self, then: Merged) {
        for pool in then.config.pools.values() {
            let mut live = self.live(pool);
            let plan = live.plan(&then.config, pool);
            live.carry_out(&plan);
            self.pools.insert(pool.name.clone(), live);
        }
        self.merged = then;
    }

    pub(super) fn outlooks(&self, then: &Merged) -> BTreeMap<String, Outlook> {
        let shares =
            |live: &Live| Shares::of(&live.words, &live.backends.iter().copied().collect());
        let mut outlooks: BTreeMap<String, Outlook> = self
            .pools
            .iter()
            .map(|(name, live)| (name.clone(), Outlook::gone(shares(live))))
            .collect();
        for pool in then.config.pools.values() {
            let live = self.live(pool);
            let plan = live.plan(&then.config, pool);
            let anew = live.backends.is_empty();
            let before = self.pools.get(&pool.name).filter(|_| anew).map(shares);
            let actual = PoolActual {
                backends: &live.backends,
                words: &live.words,
            };
            outlooks.insert(pool.name.clone(), Outlook::of(actual, &plan, before));
        }
        outlooks
    }

    pub(super) fn diff(&self, parts: &[String]) -> (Vec<ServiceDiff>, Vec<PoolDiff>) {
        let then = config(parts);
        let outlooks = self.outlooks(&then);
        let facts = Facts {
            now: &self.merged,
            then: &then,
            outlooks: &outlooks,
        };
        (facts.services(&self.recorded), facts.pools())
    }

    /// The diff of the one service that there is.
    pub(super) fn only(&self, parts: &[String]) -> ServiceDiff {
        let (mut services, pools) = self.diff(parts);
        assert_eq!((services.len(), pools), (1, Vec::new()));
        services.remove(0)
    }
}
