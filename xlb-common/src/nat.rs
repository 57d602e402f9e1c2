//! Full NAT: which source port a connection has towards its backend, and for how long.
//!
//! An entry of `NAT_PORTS` is one port of one source address under one protocol; its index says which.
//! Its word holds what is decided by compare-and-exchange: whose claim it is, in which state, and until
//! when. The rest is written by who has claimed it, before its state says that it is in
//! use, and stays until the port is claimed again, which is not before its timeout.

use crate::flow::FlowKey;

/// Source addresses of a host at most, both families together.
pub const SOURCES_MAX: u32 = 32;

/// Addresses of one family that ports are taken from at most.
pub const SOURCES_OF_FAMILY: usize = 16;

/// Entries of `NAT_PORTS` that a source address has: every port of TCP, then every port of UDP.
pub const PORTS_OF_SOURCE: u32 = 1 << 17;

/// Ports that are looked at for one that is free, one after another: a new connection is refused when
/// none of them is.
pub const PORT_PROBES: u32 = 64;

/// Stands in place of a protocol in the tables of VIPs where an address is a source of full NAT; its
/// target is the number of the source, plus one.
pub const SOURCE: u8 = 255;

/// States of a port.
pub mod state {
    /// Never used, or given back.
    pub const FREE: u8 = 0;
    /// Somebody is filling it in.
    pub const CLAIMED: u8 = 1;
    /// The connection went to another backend, and has another port.
    pub const MOVED: u8 = 2;
    /// The client has asked for a connection. This state and those that follow are of connections that
    /// go on.
    pub const OPENING: u8 = 3;
    /// The backend has answered.
    pub const ANSWERED: u8 = 4;
    /// The client has confirmed that.
    pub const ESTABLISHED: u8 = 5;
    /// The client has closed its half.
    pub const CLIENT_CLOSED: u8 = 6;
    /// The backend has closed its half.
    pub const BACKEND_CLOSED: u8 = 7;
    /// Both have.
    pub const CLOSED: u8 = 8;
    /// One of them has reset the connection, unless what looked so was forged.
    pub const RESET: u8 = 9;
    /// Datagrams of the client, and none of the backend so far.
    pub const ONE_WAY: u8 = 10;
    /// Datagrams both ways.
    pub const TWO_WAY: u8 = 11;

    /// Their names, by number.
    pub const NAMES: [&str; 12] = [
        "free",
        "claimed",
        "moved",
        "opening",
        "answered",
        "established",
        "client-closed",
        "backend-closed",
        "closed",
        "reset",
        "one-way",
        "two-way",
    ];
}

/// Seconds after its last packet for which a port stays taken, by state; 0: as long as the service says
/// that an open connection may be idle.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts(pub [u32; 16]);

impl Default for Timeouts {
    /// Those of Linux' `nf_conntrack`, but for a connection that is closed: as long as Linux keeps it
    /// in TIME-WAIT (`TCP_TIMEWAIT_LEN`).
    fn default() -> Self {
        let mut seconds = [0; 16];
        seconds[state::OPENING as usize] = 60;
        seconds[state::ANSWERED as usize] = 60;
        seconds[state::CLIENT_CLOSED as usize] = 120;
        seconds[state::BACKEND_CLOSED as usize] = 120;
        seconds[state::CLOSED as usize] = 60;
        seconds[state::RESET as usize] = 10;
        seconds[state::ONE_WAY as usize] = 30;
        seconds[state::MOVED as usize] = 120;
        Self(seconds)
    }
}

impl Timeouts {
    /// Of a port in this state, of a service whose open connections may be idle for `idle_s`.
    #[inline(always)]
    #[must_use]
    pub const fn of(&self, state: u8, idle_s: u32) -> u32 {
        match self.0[(state & 15) as usize] {
            0 => idle_s,
            seconds => seconds,
        }
    }
}

/// A port: value of `NAT_PORTS`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatPort {
    /// See [`Word`].
    pub word: u64,
    /// The flow of the client to the VIP.
    pub flow: FlowKey,
    /// Number of the service.
    pub service: u32,
    /// Number of the backend.
    pub backend: u32,
    /// For how long an open connection may be idle, seconds.
    pub idle_s: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<NatPort>() == 64);

/// A source address: value of `NAT_SOURCES`, by number. Its ports lie in `NAT_PORTS` from its number
/// times [`PORTS_OF_SOURCE`] on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatSource {
    /// Address; IPv4 in the first four bytes.
    pub address: [u8; 16],
    /// 4 or 6; 0: the number is free.
    pub family: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<NatSource>() == 24);

/// What new connections of a family get their ports from: value of `NAT_POOLS`, IPv4 first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatPool {
    /// Numbers of the sources.
    pub sources: [u8; SOURCES_OF_FAMILY],
    /// How many these are.
    pub length: u32,
    /// First port.
    pub first: u16,
    /// Ports less one, from the first on.
    pub last: u16,
    /// For how long the ports stay taken.
    pub timeouts: Timeouts,
}

const _: () = assert!(size_of::<NatPool>() == 88);

/// Index in `NAT_PORTS`.
#[inline(always)]
#[must_use]
pub const fn index(source: u32, is_udp: bool, port: u16) -> u32 {
    source << 17 | (is_udp as u32) << 16 | port as u32
}

/// Number of the source of an index.
#[inline(always)]
#[must_use]
pub const fn source_of(index: u32) -> u32 {
    index >> 17
}

/// Port of an index.
#[inline(always)]
#[must_use]
pub const fn port_of(index: u32) -> u16 {
    index as u16
}

/// What compare-and-exchange decides: until when the port is taken (bits 0 to 31, seconds of
/// `CLOCK_MONOTONIC`), its state (32 to 39), and how often it was claimed (40 to 63).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Word(pub u64);

impl Word {
    /// The last second in which the port is taken; 0 if it is free, the largest while it is claimed.
    #[inline(always)]
    #[must_use]
    pub const fn until_s(self) -> u32 {
        self.0 as u32
    }

    /// Its state.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> u8 {
        (self.0 >> 32) as u8
    }

    /// How often it was claimed.
    #[inline(always)]
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 40) as u32
    }

    /// The same claim, in this state until then.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, state: u8, until_s: u32) -> Self {
        Self(self.0 >> 40 << 40 | (state as u64) << 32 | until_s as u64)
    }

    /// The same claim, used now.
    #[inline(always)]
    #[must_use]
    pub const fn used(self, state: u8, timeouts: &Timeouts, idle_s: u32, now_s: u32) -> Self {
        // A timeout is far less than what is left of the clock.
        self.with(state, now_s.wrapping_add(timeouts.of(state, idle_s)))
    }

    /// The same claim, given back.
    #[inline(always)]
    #[must_use]
    pub const fn freed(self) -> Self {
        self.with(state::FREE, 0)
    }

    /// The next claim.
    #[inline(always)]
    #[must_use]
    pub const fn claimed(self) -> Self {
        Self(((self.0 >> 40) + 1) << 40).with(state::CLAIMED, u32::MAX)
    }

    /// Whether nobody has the port any more.
    #[inline(always)]
    #[must_use]
    pub const fn is_free(self, now_s: u32) -> bool {
        self.until_s() < now_s
    }

    /// Whether the port is a connection's that goes on.
    #[inline(always)]
    #[must_use]
    pub const fn is_live(self, now_s: u32) -> bool {
        self.state() >= state::OPENING && !self.is_free(now_s)
    }
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The client.
    Client,
    /// The backend.
    Backend,
}

/// What a TCP segment says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Says {
    /// SYN.
    pub syn: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
}

/// State of a TCP connection after a segment.
///
/// A reset may be forged, so that what follows one shows that the connection lives. A SYN of the client
/// on a closed connection opens a new one between the same ends (RFC 6191), whose sequence numbers the
/// backend judges, as without a balancer.
#[inline(always)]
#[must_use]
pub const fn after_segment(old: u8, from: Sender, says: Says) -> u8 {
    let client = matches!(from, Sender::Client);
    if says.rst {
        return if old == state::CLOSED {
            old
        } else {
            state::RESET
        };
    }
    if says.syn {
        return match old {
            state::CLOSED | state::RESET if client => state::OPENING,
            state::OPENING if !client => state::ANSWERED,
            other => other,
        };
    }
    let old = match old {
        state::ANSWERED if client => state::ESTABLISHED,
        state::RESET => state::ESTABLISHED,
        other => other,
    };
    if !says.fin {
        return old;
    }
    match (client, old) {
        (true, state::BACKEND_CLOSED) | (false, state::CLIENT_CLOSED) | (_, state::CLOSED) => {
            state::CLOSED
        }
        (true, _) => state::CLIENT_CLOSED,
        (false, _) => state::BACKEND_CLOSED,
    }
}

/// State of a flow of datagrams after one.
#[inline(always)]
#[must_use]
pub const fn after_datagram(old: u8, from: Sender) -> u8 {
    match from {
        Sender::Client => old,
        Sender::Backend => state::TWO_WAY,
    }
}

/// What a packet says of its connection, as a row of [`AFTER`].
#[inline(always)]
#[must_use]
pub const fn row(from: Sender, is_datagram: bool, says: Says) -> u32 {
    (matches!(from, Sender::Backend) as u32) << 3
        | (is_datagram as u32) << 4
        | (says.syn as u32) << 2
        | (says.rst as u32) << 1
        | says.fin as u32
}

/// Rows of [`AFTER`].
pub const ROWS: usize = 32;

/// State after a packet, by [`row`] and the state before: [`after_segment`] and [`after_datagram`] as a
/// table, since branches multiply in the verifier.
pub static AFTER: [[u8; 16]; ROWS] = {
    let mut table = [[0; 16]; ROWS];
    let mut row = 0;
    while row < ROWS {
        let from = if row & 8 == 0 {
            Sender::Client
        } else {
            Sender::Backend
        };
        let says = Says {
            syn: row & 4 != 0,
            rst: row & 2 != 0,
            fin: row & 1 != 0,
        };
        let mut old = 0;
        while old < 16 {
            table[row][old] = if row & 16 == 0 {
                after_segment(old as u8, from, says)
            } else {
                after_datagram(old as u8, from)
            };
            old += 1;
        }
        row += 1;
    }
    table
};

/// The table of ports, as an allocation wants it.
pub trait Ports {
    /// Word of a port.
    fn read(&mut self, index: u32) -> Option<Word>;
    /// Sets the word of a port if it is still the old one; whether it was.
    fn exchange(&mut self, index: u32, old: Word, new: Word) -> bool;
}

/// Why a new connection gets no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// None of those that were looked at is free.
    Exhausted,
    /// Another CPU took it at the same moment.
    Raced,
}

/// Claims a port for a new connection: its index, and its word. `opaque` hides a number from the
/// compiler, so that what is written without branches stays so.
///
/// # Errors
///
/// The connection is to be refused.
#[inline(always)]
pub fn allocate(
    ports: &mut impl Ports,
    pool: &NatPool,
    hash: u32,
    is_udp: bool,
    now_s: u32,
    opaque: impl Fn(u64) -> u64,
) -> Result<(u32, Word), Refused> {
    let length = if pool.length > SOURCES_OF_FAMILY as u32 {
        SOURCES_OF_FAMILY as u32
    } else {
        pool.length
    };
    if length == 0 {
        return Err(Refused::Exhausted);
    }
    let count = pool.last as u64 + 1;
    // All ports of all sources stand in a row.
    let all = count * length as u64;
    let first = crate::hash::slot(hash, all as u32) as u64;
    let mut probe = 0;
    while probe < PORT_PROBES as u64 {
        let place = first + probe;
        // Once around if there are fewer ports than places that are looked at, and a branch less for
        // the verifier to follow in each round.
        let rounds = opaque(place) / all;
        let place = place - rounds * all;
        let turn = place / count;
        let offset = place - turn * count;
        let source = pool.sources[(turn as usize) & (SOURCES_OF_FAMILY - 1)];
        let port = pool.first.wrapping_add(offset as u16);
        let index = index(source as u32, is_udp, port);
        if let Some(word) = ports.read(index)
            && word.is_free(now_s)
        {
            let claimed = word.claimed();
            return if ports.exchange(index, word, claimed) {
                Ok((index, claimed))
            } else {
                Err(Refused::Raced)
            };
        }
        probe += 1;
    }
    Err(Refused::Exhausted)
}

#[cfg(test)]
mod tests;
