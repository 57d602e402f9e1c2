//! The task that adds and removes addresses, and announces them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Wanted,
    place::{Place, Plan, places, plan, quiet_places},
    record::Record,
};
use crate::{
    announce::{AnnounceSchedule, Announcer},
    netlink::{self, AddressOutcome, Interface, Tables, model::Address},
};

/// What failed is tried again after so long.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Task {
    record: Record,
    netlink: netlink::Handle,
    tables: watch::Receiver<Arc<Tables>>,
    wanted: watch::Receiver<Option<Wanted>>,
    schedule: AnnounceSchedule,
    /// What is announced, by the hardware address that was told, if the link was up.
    told: BTreeMap<Place, Option<[u8; 6]>>,
    /// The round of announcements that this was in.
    round: u64,
    /// Why the last attempt at an address failed: said once.
    troubles: BTreeMap<Place, String>,
    /// When what failed is tried again.
    retry_at: Option<Instant>,
    /// The addresses at the last look, since all else in the tables changes more often.
    addresses: Vec<Address>,
}

impl Task {
    pub(super) fn new(
        record: Record,
        netlink: netlink::Handle,
        tables: watch::Receiver<Arc<Tables>>,
        wanted: watch::Receiver<Option<Wanted>>,
    ) -> Self {
        Self {
            record,
            netlink,
            tables,
            wanted,
            schedule: AnnounceSchedule::default(),
            told: BTreeMap::new(),
            round: 0,
            troubles: BTreeMap::new(),
            retry_at: None,
            addresses: Vec::new(),
        }
    }

    /// Runs until the event loop has ended. The addresses stay.
    pub(super) async fn run(mut self) {
        let mut due = true;
        loop {
            if due || self.retry_at.is_some_and(|at| at <= Instant::now()) {
                self.reconcile().await;
            }
            let wake = self.announce().into_iter().chain(self.retry_at).min();
            due = tokio::select! {
                alive = self.wanted.changed() => match alive {
                    Ok(()) => true,
                    Err(_) => return,
                },
                alive = self.tables.changed() => match alive {
                    Ok(()) => self.addresses != self.tables.borrow_and_update().addresses(),
                    Err(_) => return,
                },
                () = sleep_until(wake) => false,
            };
        }
    }

    /// Brings addresses and announcements in line with what is wanted.
    async fn reconcile(&mut self) {
        let Some(wanted) = self.wanted.borrow_and_update().clone() else {
            return;
        };
        let tables = self.tables.borrow_and_update().clone();
        self.addresses = tables.addresses().to_vec();
        let own = self.record.added();
        let mut desired = places(&wanted.vips, &wanted.interfaces, &tables, own);
        desired.extend(quiet_places(&wanted.quiet));
        let plan = plan(&desired, own, &tables);
        let before = std::mem::take(&mut self.troubles);
        self.remove(&plan).await;
        self.add(&plan).await;
        for why in self.troubles.values().collect::<BTreeSet<_>>() {
            if !before.values().any(|known| known == why) {
                tracing::error!("{why}; trying again");
            }
        }
        self.retry_at = (!self.troubles.is_empty()).then(|| Instant::now() + RETRY);
        desired.retain(|place| !self.troubles.contains_key(place));
        if std::mem::replace(&mut self.round, wanted.round) != wanted.round {
            self.told.values_mut().for_each(|mac| *mac = None);
        }
        self.tell(&desired, &wanted.interfaces);
    }

    async fn remove(&mut self, plan: &Plan) {
        let mut gone = plan.forget.clone();
        for &(ifindex, vip) in &plan.remove {
            match self.netlink.del_address(ifindex, vip).await {
                Ok(_) => {
                    tracing::info!("{vip} is no longer on {}", name_of(ifindex));
                    gone.push((ifindex, vip));
                }
                Err(error) => self.trouble(&[(ifindex, vip)], &error.into()),
            }
        }
        self.disown(&gone);
    }

    async fn add(&mut self, plan: &Plan) {
        let new = match self.record.insert(&plan.add) {
            Ok(new) => new,
            Err(error) => return self.trouble(&plan.add, &error),
        };
        let mut not_ours = Vec::new();
        for &place in &plan.add {
            let (ifindex, vip) = place;
            match self.netlink.add_address(ifindex, vip).await {
                Ok(AddressOutcome::Done) => tracing::info!("{vip} is on {}", name_of(ifindex)),
                // Somebody was faster; or it is ours, and the tables lag behind.
                Ok(AddressOutcome::AlreadySo) => not_ours.push(place),
                Err(error) => {
                    not_ours.push(place);
                    self.trouble(&[place], &error.into());
                }
            }
        }
        not_ours.retain(|place| new.contains(place));
        self.disown(&not_ours);
    }

    fn disown(&mut self, places: &[Place]) {
        if let Err(error) = self.record.remove(places) {
            self.trouble(places, &error);
        }
    }

    fn trouble(&mut self, places: &[Place], error: &anyhow::Error) {
        let why = format!("{error:#}");
        for &place in places {
            self.troubles.insert(place, why.clone());
        }
    }

    /// Has what is new, or has another hardware address or a link that came up, announced anew.
    fn tell(&mut self, desired: &BTreeSet<Place>, interfaces: &[Interface]) {
        let now = Instant::now();
        let schedule = &mut self.schedule;
        self.told.retain(|&(ifindex, vip), _| {
            let stays = desired.contains(&(ifindex, vip));
            if !stays {
                schedule.stop(ifindex, vip);
            }
            stays
        });
        for &(ifindex, vip) in desired {
            let at = mac_of(ifindex, interfaces);
            let before = self.told.insert((ifindex, vip), at).flatten();
            if at.is_some() && at != before {
                self.schedule.start(ifindex, vip, now);
            }
        }
    }

    /// Announces what is due, and says when the next is.
    fn announce(&mut self) -> Option<Instant> {
        let announcer = self
            .wanted
            .borrow()
            .as_ref()
            .and_then(|wanted| wanted.announcer.clone());
        if let Some(announcer) = announcer {
            for (ifindex, vip) in self.schedule.due(Instant::now()) {
                self.announce_one(&announcer, (ifindex, vip));
            }
        }
        self.schedule.next()
    }

    fn announce_one(&self, announcer: &Announcer, place: Place) {
        let (ifindex, vip) = place;
        let Some(mac) = self.told.get(&place).copied().flatten() else {
            return;
        };
        match announcer.announce(ifindex, mac, vip) {
            Ok(()) => tracing::debug!("announced {vip} on {}", name_of(ifindex)),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

/// The hardware address of an interface that is up.
fn mac_of(ifindex: u32, interfaces: &[Interface]) -> Option<[u8; 6]> {
    let interface = interfaces
        .iter()
        .find(|interface| interface.ifindex == ifindex)?;
    interface.mac.filter(|_| interface.up)
}

/// The name of an interface, or its number if it has none.
pub(super) fn name_of(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex).map_or_else(
        |_| format!("interface {ifindex}"),
        |name| name.to_string_lossy().into_owned(),
    )
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
