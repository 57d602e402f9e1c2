//! The backend's side: takes packets out of the headers that balancers put around them, and makes
//! the host one that answers for the VIPs.
//!
//! What is made outlives the process, as the balancer's data path does. All that has to be
//! remembered to undo it stands in pinned maps, which live exactly as long.

mod loopback;
mod maps;
mod peers;
mod status;
mod sysctl;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use xlb_common::decap::DIRECTORY;
use xlb_control::config::Decapsulation;

use self::peers::Peers;
pub use self::status::{Alternative, Status, Vip, status};
use crate::{
    daemon::clients::Missed,
    dataplane::{self, Decapsulator, Interface, Pinned},
    lock::Lock,
    netlink::{self, InterfaceTracker, InterfaceView},
};

/// Where a backend keeps its pins: below the agent's, so that a host may be both.
#[must_use]
pub fn pin_dir(agents_pin_dir: &Path) -> PathBuf {
    agents_pin_dir.join(DIRECTORY)
}

/// Runs the backend's side until SIGTERM or SIGINT. What it has made goes on after it.
///
/// # Errors
///
/// When it can't start: another agent, a bad configuration, a kernel that refuses.
pub fn run(config: PathBuf, pin_dir: PathBuf) -> anyhow::Result<()> {
    runtime()?.block_on(async { Agent::start(config, pin_dir).await?.serve().await })
}

/// Undoes everything that [`run`] has done, and says what.
///
/// # Errors
///
/// When an agent runs, or the kernel refuses; what is left then can be removed later.
pub fn unload(pin_dir: &Path) -> anyhow::Result<Vec<String>> {
    if !pin_dir.exists() {
        return Ok(Vec::new());
    }
    let _lock = Lock::acquire(&[pin_dir])?;
    let mut done = Vec::new();
    // What is pinned is also the memory of what was done, so it goes last.
    if let Some(mut pinned) = Pinned::find(pin_dir)? {
        let restored = runtime()?.block_on(async {
            let (netlink, _tables) = netlink::spawn()?;
            loopback::clear(&netlink, &mut pinned.maps, |_| false).await
        })?;
        done.extend(
            restored
                .iter()
                .map(|vip| format!("address {vip} from the loopback interface")),
        );
        done.extend(sysctl::restore(&mut pinned.maps)?);
    }
    done.extend(dataplane::unload(pin_dir)?);
    // Where no agent of a balancer is, its directory was made for ours alone.
    if let Some(agents) = pin_dir.parent()
        && fs::remove_dir(agents).is_ok()
    {
        done.push(format!("directory {}", agents.display()));
    }
    Ok(done)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")
}

struct Agent {
    path: PathBuf,
    _lock: Lock,
    config: Decapsulation,
    decapsulator: Decapsulator,
    missed: Missed,
    peers: Peers,
    netlink: netlink::Handle,
    tables: watch::Receiver<Arc<netlink::Tables>>,
    tracker: InterfaceTracker,
    view: InterfaceView,
}

impl Agent {
    async fn start(path: PathBuf, pin_dir: PathBuf) -> anyhow::Result<Self> {
        let config = load(&path)?;
        dataplane::prepare_pin_dir(&pin_dir)?;
        let lock = Lock::acquire(&[&pin_dir])?;
        let (netlink, mut tables) = netlink::spawn()?;
        tables
            .wait_for(|tables| tables.complete)
            .await
            .context("read links and addresses")?;
        let mut tracker = InterfaceTracker::new(&config.interfaces);
        let view = tracker.view(&tables.borrow_and_update());
        if let Some(name) = view.missing.first() {
            anyhow::bail!(
                "interface {name} does not exist: see `ip link`, and set backend.interfaces in {}",
                path.display()
            );
        }
        let (decapsulator, attached) =
            Decapsulator::open(&pin_dir, &interfaces(&view), config.mode, |maps| {
                maps::apply(maps, &config)
            })?;
        tracing::info!(?attached, "the program runs");
        let missed = Missed::new(decapsulator.events()?);
        let mut agent = Self {
            path,
            _lock: lock,
            config,
            decapsulator,
            missed,
            peers: Peers::default(),
            netlink,
            tables,
            tracker,
            view,
        };
        agent.equip_host().await?;
        Ok(agent)
    }

    async fn serve(mut self) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tracing::info!("ready");
        loop {
            let outcome = tokio::select! {
                changed = self.tables.changed() => {
                    changed.context("hear of changes of interfaces and addresses")?;
                    self.look_around().await
                }
                missed = self.missed.next() => {
                    self.peers.miss(missed.context("hear of the program")?);
                    self.find_peers()
                }
                _ = hangup.recv() => self.reload().await,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            };
            if let Err(error) = outcome {
                tracing::error!("{error:#}");
            }
        }
        tracing::info!("stopping; packets are unpacked on");
        Ok(())
    }

    /// Follows interfaces that come and go, and puts VIPs back that somebody has removed.
    async fn look_around(&mut self) -> anyhow::Result<()> {
        let view = self.tracker.view(&self.tables.borrow_and_update().clone());
        if view.indexes() != self.view.indexes() {
            let attached = self
                .decapsulator
                .attach(&interfaces(&view), self.config.mode)?;
            tracing::info!(?attached, missing = ?view.missing, "interfaces have changed");
        }
        self.view = view;
        self.find_peers()?;
        self.put_vips().await
    }

    /// Tells the program the ways to other backends, and has the kernel keep them known.
    fn find_peers(&mut self) -> anyhow::Result<()> {
        let tables = self.tables.borrow().clone();
        self.netlink.want(self.peers.wanted(&tables, &self.view));
        let hops = self.peers.hops(&tables, &self.view);
        maps::set_alternatives(&mut self.decapsulator.maps, &hops)
            .context("tell the program the ways to other backends")
    }

    /// Puts a changed file into force. One that is refused changes nothing.
    async fn reload(&mut self) -> anyhow::Result<()> {
        tracing::info!("reloading {}", self.path.display());
        let config = load(&self.path)?;
        let mut tracker = InterfaceTracker::new(&config.interfaces);
        let view = tracker.view(&self.tables.borrow().clone());
        if let Some(name) = view.missing.first() {
            anyhow::bail!("interface {name} does not exist; the former configuration stays");
        }
        self.decapsulator.attach(&interfaces(&view), config.mode)?;
        maps::apply(&mut self.decapsulator.maps, &config)?;
        (self.config, self.tracker, self.view) = (config, tracker, view);
        self.equip_host().await?;
        tracing::info!("{} is in force", self.path.display());
        Ok(())
    }

    /// Makes the host one that answers for the VIPs, and no longer for those that are gone from the
    /// configuration.
    async fn equip_host(&mut self) -> anyhow::Result<()> {
        self.peers.set_prefixes(&self.config.peers);
        self.find_peers()?;
        let maps = &mut self.decapsulator.maps;
        let config = &self.config;
        // Before the VIPs are there, or their neighbours would learn that they are here.
        if config.loopback {
            sysctl::set(maps)?;
        }
        loopback::clear(&self.netlink, maps, |vip| {
            config.loopback && config.vips.contains(&vip)
        })
        .await?;
        if !config.loopback {
            sysctl::restore(maps)?;
        }
        self.put_vips().await
    }

    async fn put_vips(&mut self) -> anyhow::Result<()> {
        if !self.config.loopback {
            return Ok(());
        }
        let tables = self.tables.borrow().clone();
        let maps = &mut self.decapsulator.maps;
        loopback::put(&self.netlink, &tables, maps, &self.config.vips).await
    }
}

fn load(path: &Path) -> anyhow::Result<Decapsulation> {
    let loaded = Decapsulation::load(path)?;
    if !loaded.warnings.is_empty() {
        tracing::warn!("{}", loaded.warnings);
    }
    Ok(loaded.config)
}

fn interfaces(view: &InterfaceView) -> Vec<Interface> {
    view.present
        .iter()
        .map(|interface| Interface {
            name: interface.configured.clone(),
            ifindex: interface.ifindex,
        })
        .collect()
}
