//! The daemon: one event loop owns the state; tasks around it turn the world into events.
//!
//! ```text
//! probes (Checker) ----\
//! netlink (Tables) -----+--> event loop (Daemon) --> Engine --> maps
//! program (Missed) -----+
//! control API (Command)-+
//! signals, clock ------/
//! ```

mod alone;
pub mod api;
mod changes;
pub(crate) mod clients;
mod explain;
mod files;
mod foresee;
mod interfaces;
mod metrics;
mod probes;
mod report;
mod rounds;
mod spec;
mod state;
mod surroundings;
mod vips;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use xlb_control::{
    api::Change,
    config::{
        AllDown, Backend, Config, Service,
        overrides::{self, Merged},
    },
    health::{HealthEvent, State, Target},
};

pub use self::{
    alone::unload,
    explain::explain_alone,
    report::pinned::{PinnedService, PinnedStatus, pinned_status},
};
use self::{
    api::{Caller, Command},
    clients::{Clients, Missed},
    interfaces::Interfaces,
    metrics::Reloads,
    probes::{Probes, known},
    report::drops::Drops,
    rounds::Rounds,
    spec::spec,
    vips::Vips,
    world::{Known, NextHops},
};
pub(crate) use self::{spec::hash_words, state::known_hash_key};
use crate::{
    dataplane::Dataplane,
    engine::{Engine, Pools, goal},
    lock::Lock,
    netlink,
    options::Options,
    plan::Intent,
};

/// How often the daemon looks whether something is due by time alone.
const TICK: Duration = Duration::from_millis(250);

/// Transitions that may wait for the event loop.
const TRANSITIONS_WAITING: usize = 1024;

/// Runs the agent until SIGTERM or SIGINT. The data path goes on after it.
///
/// # Errors
///
/// When it can't start: another agent, a bad configuration, a kernel that refuses.
pub fn run(options: Options) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Many probes may be ready at once; the event loop is not to wait for all of them when one has
        // found something.
        .event_interval(4)
        .build()
        .context("start the runtime")?
        .block_on(async { Daemon::start(options).await?.serve().await })
}

struct Daemon {
    options: Options,
    _lock: Lock,
    /// What the file says.
    file: Config,
    /// Changes at run time.
    changes: Vec<Change>,
    /// What the file and the changes say together.
    merged: Merged,
    intents: BTreeMap<(String, SocketAddr), Intent>,
    engine: Engine,
    probes: Probes,
    transitions: mpsc::Receiver<HealthEvent>,
    rounds: Rounds,
    netlink: netlink::Handle,
    tables: watch::Receiver<Arc<netlink::Tables>>,
    interfaces: Interfaces,
    next_hops: NextHops,
    /// Backends of which the log says that they are not sent to.
    unresolved: BTreeSet<IpAddr>,
    missed: Missed,
    clients: Clients,
    vips: Vips,
    commands: mpsc::Receiver<Command>,
    started: Instant,
    started_at: SystemTime,
    reloads: Reloads,
    revision: u64,
    last_reload_error: Option<String>,
    /// When the file was to be read again last, and whether it was taken.
    last_reload: Option<(Instant, bool)>,
    /// Of the file that is in force.
    file_sha256: String,
    drops: Drops,
}

/// CLOCK_MONOTONIC in seconds: the clock of the maps.
pub(crate) fn now_s() -> u32 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| u32::try_from(now.tv_sec()).unwrap_or(u32::MAX))
}

impl Daemon {
    async fn start(options: Options) -> anyhow::Result<Self> {
        let (loaded, file_sha256) = files::load(&options.config)?;
        if !loaded.warnings.is_empty() {
            tracing::warn!("{}", loaded.warnings);
        }
        let lock = alone::take(&options)?;
        let file = loaded.config;
        let changes = state::changes(&options.state_dir)?;
        let merged = overrides::apply(&file, &changes);
        warn_of_stale(&merged);
        let key = state::hash_key(&file, &options.state_dir)?;

        let (netlink, mut tables) = netlink::spawn()?;
        tables
            .changed()
            .await
            .context("read links, routes and neighbours")?;
        let mut vips = Vips::start(&options.state_dir, netlink.clone(), tables.clone())?;
        vips.prepare(&merged.config)?;
        let mut interfaces =
            Interfaces::find((&file.dataplane).into(), &tables.borrow_and_update())?;
        let (sender, commands) = api::serve(&options.socket)?;
        if let Some(address) = options.metrics {
            metrics::serve(address, sender).await?;
        }
        let mut spec = spec(&merged.config, &interfaces.view, key);
        // Until they are told otherwise, the services that an earlier agent left go on as they are.
        spec.features |= goal::features_of_state(Dataplane::pinned_states(&options.pin_dir));
        if Dataplane::pinned_across(&options.pin_dir) {
            spec.features |= goal::FEATURES_ACROSS;
        }
        if Dataplane::pinned_portless(&options.pin_dir) {
            spec.features |= xlb_common::maps::feature::WIDE;
        }
        let (dataplane, adopted) = Dataplane::open(&options.pin_dir, &spec)?;
        tracing::info!(?adopted, "the data path runs");
        let missed = Missed::new(dataplane.events()?);
        interfaces.settle(&dataplane.maps().egress)?;
        let mut engine = Engine::adopt(dataplane, key)?;
        engine.without_transitions = options.without_transitions;
        let (sender, transitions) = mpsc::channel(TRANSITIONS_WAITING);
        let mut daemon = Self {
            options,
            _lock: lock,
            file,
            changes,
            intents: BTreeMap::new(),
            merged,
            engine,
            probes: Probes::new(sender, files::probes_in_flight()),
            transitions,
            rounds: Rounds::new(),
            netlink,
            tables,
            interfaces,
            next_hops: HashMap::new(),
            unresolved: BTreeSet::new(),
            missed,
            clients: Clients::default(),
            vips,
            commands,
            started: Instant::now(),
            started_at: SystemTime::now(),
            reloads: Reloads::at_start(),
            revision: 0,
            last_reload_error: None,
            last_reload: None,
            file_sha256,
            drops: Drops::default(),
        };
        daemon.intents = daemon.intents_of(&daemon.merged.admin, &daemon.merged.admin);
        // What the maps say of backends is what is known of them, before anything is planned.
        daemon.probe_all();
        daemon.meet_neighbours().await?;
        daemon.look_around()?;
        if let Some(name) = daemon.interfaces.view.missing.first() {
            anyhow::bail!("interface {name} cannot be used: the log says why");
        }
        daemon.apply(Pools::All)?;
        daemon.forget_interfaces();
        Ok(daemon)
    }

    async fn serve(mut self) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tracing::info!("ready");
        loop {
            let outcome = tokio::select! {
                biased;
                Some(event) = self.transitions.recv() => self.on_transition(&event),
                Ok(()) = self.tables.changed() => self.look_around(),
                Some(command) = self.commands.recv() => { self.on_command(command); Ok(()) }
                Ok(missed) = self.missed.next() => { self.on_missed(&missed); Ok(()) }
                _ = hangup.recv() => { let _ = self.reload(Caller { uid: None }); Ok(()) }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                Some(found) = self.rounds.ended() => self.on_round(found),
                _ = tick.tick() => self.on_tick(),
            };
            if let Err(error) = outcome {
                tracing::error!(error = format!("{error:#}"), "bringing the maps in line");
            }
        }
        tracing::info!("stopping; the data path goes on");
        let _ = std::fs::remove_file(&self.options.socket);
        Ok(())
    }

    /// Brings everything in line with the configuration.
    fn apply(&mut self, changed: Pools<'_>) -> anyhow::Result<()> {
        let spec = spec(
            &self.merged.config,
            &self.interfaces.view,
            self.engine.key(),
        );
        self.probe_all();
        let known = Known {
            next_hops: &self.next_hops,
            checker: &self.probes.checker,
            intents: &self.intents,
            removed: &self.merged.removed,
        };
        self.engine
            .apply(&self.merged.config, &spec, changed, &known, now_s())?;
        self.place_vips();
        self.revision += 1;
        Ok(())
    }

    /// Has the VIPs be on interfaces that the configuration wants there, but for those of services of
    /// this host's own stack behind which nothing listens.
    fn place_vips(&self) {
        self.vips.set(
            &self.merged.config,
            |service| self.is_served(service),
            &self.interfaces.view.present,
        );
    }

    /// The same after what is known of a pool has changed.
    fn place_vips_of(&self, pool: &str) {
        let mut services = world::local_services(&self.merged.config);
        if services.any(|service| service.pool == pool) {
            self.place_vips();
        }
    }

    /// Whether the listener of a service of this host's own stack serves, as far as its check knows:
    /// one that has shown nothing yet does not.
    fn is_served(&self, service: &Service) -> bool {
        let (Some(pool), Some(state)) = (
            self.merged.config.pools.get(&service.pool),
            self.engine.pools.get(&service.pool),
        ) else {
            return false;
        };
        let mut endpoints = pool.backends.iter().map(Backend::endpoint);
        if endpoints.any(|at| self.intents.contains_key(&(pool.name.clone(), at))) {
            return false;
        }
        if service.all_down == AllDown::Panic {
            return true;
        }
        let is_known = |check| {
            let mut backends = pool.backends.iter();
            backends.any(|backend| {
                let target = Target::new(backend.endpoint(), check);
                self.probes.checker.state(&target) != Some(State::Unknown)
            })
        };
        !state.all_down && pool.check.as_ref().is_none_or(is_known)
    }

    /// Probes what the configuration says.
    fn probe_all(&mut self) {
        let engine = &self.engine;
        self.probes.set_all(&self.merged.config, |pool, endpoint| {
            known(engine, pool, endpoint)
        });
    }

    fn update_pool(&mut self, name: &str) -> anyhow::Result<()> {
        let known = Known {
            next_hops: &self.next_hops,
            checker: &self.probes.checker,
            intents: &self.intents,
            removed: &self.merged.removed,
        };
        self.engine
            .update_pool(&self.merged.config, name, &known, now_s())?;
        self.engine
            .pool_changed(&self.merged.config, name, now_s())?;
        self.place_vips_of(name);
        Ok(())
    }

    fn on_transition(&mut self, event: &HealthEvent) -> anyhow::Result<()> {
        let affected = self.probes.pools_of(&event.target);
        for name in &affected {
            let known = Known {
                next_hops: &self.next_hops,
                checker: &self.probes.checker,
                intents: &self.intents,
                removed: &self.merged.removed,
            };
            let config = &self.merged.config;
            self.engine
                .update_health(config, name, &event.target, &known, now_s())?;
            self.engine.pool_changed(config, name, now_s())?;
            self.place_vips_of(name);
        }
        Ok(())
    }

    fn on_tick(&mut self) -> anyhow::Result<()> {
        self.age_clients();
        self.note_drops();
        let now_s = now_s();
        let due: Vec<String> = self
            .engine
            .pools
            .iter()
            .filter(|(_, pool)| pool.wake_s.is_some_and(|wake_s| wake_s <= now_s))
            .map(|(name, _)| name.clone())
            .collect();
        due.iter().try_for_each(|name| self.update_pool(name))?;
        if let Some(work) = self.engine.prepare_ring() {
            tokio::task::spawn_blocking(work);
        }
        self.begin_round(now_s)
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Status(reply) => self.answer_status(reply),
            Command::Metrics(reply) => drop(reply.send(Box::new(self.sample()))),
            Command::Services(reply) => drop(reply.send(self.service_list())),
            Command::Backends(reply) => drop(reply.send(self.backend_list())),
            Command::Health(service, reply) => {
                drop(reply.send(self.health_list(service.as_deref())));
            }
            Command::Nat(service, limit, reply) => {
                drop(reply.send(self.nat_status(service.as_deref(), limit)));
            }
            Command::Change(change, caller, reply) => {
                drop(reply.send(self.change(change, caller)));
            }
            Command::Reload(caller, reply) => drop(reply.send(self.reload(caller))),
            Command::Diff(request, reply) => drop(reply.send(self.diff(request))),
            Command::Explain(packet, reply) => drop(reply.send(self.explain(&packet))),
        }
    }
}

fn warn_of_stale(merged: &Merged) {
    for (_, sentence) in &merged.stale {
        tracing::warn!("a change made at run time has no effect any more: {sentence}");
    }
}
