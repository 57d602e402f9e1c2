//! The I/O: one socket that hears the kernel's notifications, one for requests, one task.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rtnetlink::sys::{AsyncSocketExt, SocketAddr, TokioSocket};
use thiserror::Error;
use tokio::sync::watch;

use super::NeighbourKey;
use super::model::Change;
use super::refresh::{self, Coalescer, Refresher};
use super::requests;
use super::socket::{acknowledged, changes, open_notifications, read_into};
use super::tables::Tables;

/// Changes are told at once, and then at most once in this time.
pub const PUBLISH_PAUSE: Duration = Duration::from_millis(5);
/// Neighbours that are not confirmed are looked at this often.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// The tables are read again at most this often, or ten times the time that the last reading took.
const RESYNC_PAUSE: Duration = Duration::from_millis(200);
/// The tables are read again after this time in any case: a bound on how long an event that the
/// kernel never told stays unknown.
const RESYNC_EVERY: Duration = Duration::from_secs(60);
/// A reading that the kernel says was interrupted by a change is repeated this often.
const DUMP_ATTEMPTS: u32 = 4;
/// The kernel writes messages of at most 32 KiB.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Datagrams that are read in a row before anything else is done.
const DATAGRAMS_IN_A_ROW: usize = 256;

/// What went wrong between agent and kernel.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The sockets could not be opened.
    #[error("open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// A request was refused.
    #[error("{what}: {source}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Notifications cannot be read any more.
    #[error("read from the netlink socket: {0}")]
    Read(#[source] io::Error),
    /// The connection has ended.
    #[error("the netlink connection has ended")]
    Closed,
}

/// What adding or removing an address came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressOutcome {
    /// It was done.
    Done,
    /// It was so already: the address belongs to somebody else, or an earlier agent.
    AlreadySo,
}

/// Asks the kernel for things. The task ends with the last clone of it.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: rtnetlink::Handle,
    wanted: Arc<watch::Sender<Wanted>>,
}

/// Neighbours that are to be kept resolved.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// Those that the configuration and the routes name.
    configured: BTreeSet<NeighbourKey>,
    /// Those that packets name, which anybody can send.
    clients: BTreeSet<NeighbourKey>,
}

impl Handle {
    /// Keeps exactly these neighbours resolved from now on, besides clients.
    pub fn want(&self, neighbours: BTreeSet<NeighbourKey>) {
        self.set(|wanted| &mut wanted.configured, neighbours);
    }

    /// Keeps exactly these clients resolved from now on, at a pace of their own, so that they stand
    /// in nobody's way.
    pub fn want_clients(&self, clients: BTreeSet<NeighbourKey>) {
        self.set(|wanted| &mut wanted.clients, clients);
    }

    fn set(
        &self,
        of: impl FnOnce(&mut Wanted) -> &mut BTreeSet<NeighbourKey>,
        neighbours: BTreeSet<NeighbourKey>,
    ) {
        self.wanted.send_if_modified(|wanted| {
            let set = of(wanted);
            let differs = *set != neighbours;
            if differs {
                *set = neighbours;
            }
            differs
        });
    }

    /// Puts an address on an interface, as /32 or /128.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Refused`] with the kernel's reason.
    pub async fn add_address(
        &self,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<AddressOutcome, NetlinkError> {
        let request = requests::add_address(ifindex, address);
        let answer = acknowledged(&self.requests, request).await;
        outcome(answer, &[libc::EEXIST], || {
            format!("add {address} to interface {ifindex}")
        })
    }

    /// Takes an address off an interface; the interface being gone is as good.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Refused`] with the kernel's reason.
    pub async fn del_address(
        &self,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<AddressOutcome, NetlinkError> {
        let request = requests::del_address(ifindex, address);
        let answer = acknowledged(&self.requests, request).await;
        let so = [libc::EADDRNOTAVAIL, libc::ENODEV];
        outcome(answer, &so, || {
            format!("remove {address} from interface {ifindex}")
        })
    }
}

fn outcome(
    answer: io::Result<()>,
    already_so: &[i32],
    what: impl FnOnce() -> String,
) -> Result<AddressOutcome, NetlinkError> {
    match answer {
        Ok(()) => Ok(AddressOutcome::Done),
        Err(error)
            if error
                .raw_os_error()
                .is_some_and(|code| already_so.contains(&code)) =>
        {
            Ok(AddressOutcome::AlreadySo)
        }
        Err(source) => Err(NetlinkError::Refused {
            what: what(),
            source,
        }),
    }
}

/// Opens the sockets in the calling thread's network namespace and starts the task on the current
/// tokio runtime. Needs CAP_NET_ADMIN for what it changes, and nothing for what it reads.
///
/// The receiver holds empty tables with `complete` false until the kernel's have been read; wait
/// with `receiver.wait_for(|tables| tables.complete)`. It reports an error when the task has ended,
/// which it does when all handles are gone or the kernel closes the socket.
///
/// # Errors
///
/// [`NetlinkError::Open`].
pub fn spawn() -> Result<(Handle, watch::Receiver<Arc<Tables>>), NetlinkError> {
    let notifications = open_notifications().map_err(NetlinkError::Open)?;
    let (mut connection, requests, unsolicited) =
        rtnetlink::new_connection().map_err(NetlinkError::Open)?;
    // This socket is in no group: what it hears are answers.
    drop(unsolicited);
    connection.set_forward_done(true);
    tokio::spawn(connection);

    let (wanted, wanted_changes) = watch::channel(Wanted::default());
    let (published, receiver) = watch::channel(Arc::new(Tables::default()));
    let handle = Handle {
        requests: requests.clone(),
        wanted: Arc::new(wanted),
    };
    let task = Task {
        notifications,
        requests,
        wanted: wanted_changes,
        published,
        tables: Tables::default(),
        publish: Coalescer::new(PUBLISH_PAUSE),
        resync: Coalescer::new(RESYNC_PAUSE),
        resync_at_latest: Instant::now(),
        configured: Refresher::new(refresh::CONFIGURED),
        clients: Refresher::new(refresh::CLIENTS),
    };
    tokio::spawn(async move {
        if let Err(error) = task.run().await {
            tracing::error!("netlink: {error}");
        }
    });
    Ok((handle, receiver))
}

struct Task {
    notifications: TokioSocket,
    requests: rtnetlink::Handle,
    wanted: watch::Receiver<Wanted>,
    published: watch::Sender<Arc<Tables>>,
    tables: Tables,
    publish: Coalescer,
    resync: Coalescer,
    resync_at_latest: Instant,
    configured: Refresher,
    clients: Refresher,
}

impl Task {
    async fn run(mut self) -> Result<(), NetlinkError> {
        self.resync.note();
        let mut buffer = Vec::with_capacity(DATAGRAM_BYTES);
        loop {
            self.step().await?;
            let deadline = self.deadline(Instant::now());
            buffer.clear();
            tokio::select! {
                received = self.notifications.recv_from(&mut buffer) => {
                    self.received(received, &mut buffer)?;
                }
                alive = self.wanted.changed() => {
                    if alive.is_err() {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        [
            self.publish.due(now),
            self.resync.due(now),
            Some(self.resync_at_latest),
        ]
        .into_iter()
        .flatten()
        .fold(now + REFRESH_EVERY, Instant::min)
    }

    async fn step(&mut self) -> Result<(), NetlinkError> {
        let now = Instant::now();
        if now >= self.resync_at_latest {
            self.resync.note();
        }
        if self.resync.take(now) {
            self.read_all().await?;
        }
        if self.tables.complete && self.publish.take(Instant::now()) {
            self.published.send_replace(Arc::new(self.tables.clone()));
        }
        if self.tables.complete {
            self.ask_for_neighbours().await;
        }
        Ok(())
    }

    /// Takes in a datagram, and those that wait behind it.
    fn received(
        &mut self,
        first: io::Result<SocketAddr>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), NetlinkError> {
        let mut received = first;
        for _ in 0..DATAGRAMS_IN_A_ROW {
            match received {
                // Only the kernel, which has port 0, tells of the kernel's tables.
                Ok(sender) if sender.port_number() == 0 => changes(buffer)
                    .into_iter()
                    .for_each(|change| self.apply(change)),
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    tracing::debug!("netlink notifications were lost; reading all tables again");
                    self.resync.note();
                }
                Err(error) => return Err(NetlinkError::Read(error)),
            }
            buffer.clear();
            match self.notifications.recv_from(buffer).now_or_never() {
                Some(next) => received = next,
                None => break,
            }
        }
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        let in_doubt = change.leaves_routes_in_doubt();
        if self.tables.apply(change) {
            self.publish.note();
            if in_doubt {
                self.resync.note();
            }
        }
    }

    /// Reads all tables. Notifications that come meanwhile wait in the socket and are applied
    /// after; what they tell may be older than what was read, but the last of them is not.
    async fn read_all(&mut self) -> Result<(), NetlinkError> {
        let started = Instant::now();
        let mut tables = Tables::default();
        for attempt in 1..=DUMP_ATTEMPTS {
            tables = Tables::default();
            let consistent = read_into(&self.requests, &mut tables).await?;
            if consistent {
                break;
            }
            if attempt == DUMP_ATTEMPTS {
                self.resync.note();
            }
        }
        tables.complete = true;
        if tables.routes_left_out > 0 {
            tracing::warn!(
                "{} routes more than xlb keeps were left out",
                tables.routes_left_out
            );
        }
        if tables != self.tables {
            self.tables = tables;
            self.publish.note();
        }
        let ended = Instant::now();
        self.resync
            .set_pause(RESYNC_PAUSE.max((ended - started) * 10));
        self.resync_at_latest = ended + RESYNC_EVERY;
        Ok(())
    }

    async fn ask_for_neighbours(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let now = Instant::now();
        let mut due = self.configured.due(&wanted.configured, &self.tables, now);
        due.extend(self.clients.due(&wanted.clients, &self.tables, now));
        for key in due {
            if let Err(error) = acknowledged(&self.requests, requests::use_neighbour(key)).await {
                let (ifindex, address) = key;
                tracing::debug!("ask for {address} on interface {ifindex}: {error}");
            }
        }
    }
}
