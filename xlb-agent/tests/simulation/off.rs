//! The parts of the rules that can be switched off, to show that the simulation would notice.

use std::ops::Range;

use xlb_common::rule::{Kind, SlotWord, Tables, Verdict, select, select_without, without};

/// What is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Off {
    /// Nothing: the rules as they are.
    Nothing,
    // The packet's half.
    PendingReadFirst,
    FlowsWrittenFirst,
    SynFollowsPending,
    SynFollowsFlow,
    PortUsedAgain,
    RecordBesideFlow,
    RecordBesidePending,
    SettlingRecords,
    MissOfSyn,
    MissOfFull,
    MissOfSegment,
    MissOfRecorded,
    Tombstone,
    FullFollowsFlow,
    FullDropsDown,
    Sequence,
    Confirm,
    TouchFlow,
    ConfirmedStays,
    Ttl,
    DeadMoves,
    /// FIN and RST delete the flow's record.
    FinKeeps,
    /// A full table evicts its oldest record.
    NothingEvicted,
    // The agent's half.
    /// Slots change at once: no transitions.
    StableStays,
    /// Slots are written before the pool is marked as moving.
    MovingFirst,
    /// A change does not set the last miss.
    MissOfChange,
    /// A slot that returns loses its mark at once.
    MarkOfReturn,
    /// A slot settles after the idle time from the change, whatever was missed.
    IdleFromLastMiss,
    /// Settling and collecting do not wait for a grace period.
    Grace,
    /// Settling does not read the last miss again.
    ReadAgain,
    /// A mark goes without a look for records.
    Scan,
    /// Records are looked for in FLOWS first.
    ScanOrder,
    /// Records are deleted where they are found idle.
    TombstoneFirst,
    /// Records with a tombstone are deleted without a second look.
    SecondLook,
    /// The slot of a dead backend loses its mark.
    MarkOfDead,
    /// Adoption leaves the ring and SETTLING as they are.
    Adopt,
    /// Numbers of backends are used again at once.
    Quarantine,
    /// The ring is written before the word.
    WordBeforeRing,
    /// A node joins with slots made from the configuration.
    JoinCopies,
    /// Nodes settle by their own last miss.
    FleetAgrees,
    /// Slots without a mark are at rest for a service that keeps a record of every flow, too.
    TrackedIsMarked,
    /// Slots are not marked when a policy no longer decides by connection.
    MarksOfPolicy,
    /// Slots are marked after that.
    MarksBeforePolicy,
}

/// Whether the simulation finds a broken connection without a part of the rules.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// In the histories that are played by default.
    Soon,
    /// In [`LATE`] histories.
    Late,
    /// In this history, and in hardly any other.
    In(u64),
    /// It does not, and why.
    Never(&'static str),
}

/// Histories in which the rarest race is found.
pub(crate) const LATE: u64 = 10_000;

impl Off {
    /// Which histories are worth playing, of `count`.
    pub(crate) fn worth_playing(expected: Expected, count: u64) -> Range<u64> {
        match expected {
            Expected::Soon => 0..count.max(1500),
            Expected::Late if count >= LATE => 0..count,
            Expected::Late | Expected::Never(_) => 0..count / 10,
            Expected::In(seed) => seed..seed + 1,
        }
    }

    /// All of them, each with whether the simulation finds a broken connection without it.
    pub(crate) const ALL: &[(Self, Expected)] = &[
        (Self::PendingReadFirst, Expected::Soon),
        (Self::FlowsWrittenFirst, Expected::Soon),
        (Self::SynFollowsPending, Expected::Soon),
        (Self::SynFollowsFlow, Expected::Soon),
        (
            Self::PortUsedAgain,
            Expected::Never(
                "a record is replaced when its port is used again, so that the new connection is safe anywhere; what this spares is a server that gets late segments of an older connection which it does not know",
            ),
        ),
        (Self::RecordBesideFlow, Expected::Soon),
        (Self::RecordBesidePending, Expected::Soon),
        (Self::SettlingRecords, Expected::Late),
        (
            Self::MissOfSyn,
            Expected::Never(
                "a slot whose target is its stable does not settle by its last miss, and the change after which it does sets that anew",
            ),
        ),
        (Self::MissOfFull, Expected::Soon),
        (Self::MissOfSegment, Expected::Soon),
        // A port that has a record of an older connection is used again at rest, its slot moves, and
        // once the fleet has settled another node gets the flow.
        (Self::MissOfRecorded, Expected::In(49_168)),
        (Self::Tombstone, Expected::Late),
        (Self::FullFollowsFlow, Expected::Soon),
        (
            Self::FullDropsDown,
            Expected::Never(
                "a connection to a server that is down breaks only when that is given up, which is excused; what this spares is a client that waits for it",
            ),
        ),
        (Self::Sequence, Expected::Soon),
        (Self::Confirm, Expected::Soon),
        (Self::TouchFlow, Expected::Soon),
        (Self::ConfirmedStays, Expected::Soon),
        (Self::Ttl, Expected::Late),
        (
            Self::DeadMoves,
            Expected::Never(
                "what a dead server had may break; what this brings is the reset, and with it the client's next attempt, at once",
            ),
        ),
        (Self::FinKeeps, Expected::Soon),
        (Self::NothingEvicted, Expected::Soon),
        (Self::StableStays, Expected::Soon),
        (Self::MovingFirst, Expected::Soon),
        (Self::MissOfChange, Expected::Soon),
        (Self::MarkOfReturn, Expected::Soon),
        (Self::IdleFromLastMiss, Expected::Soon),
        (Self::Grace, Expected::Late),
        (Self::ReadAgain, Expected::Late),
        (Self::Scan, Expected::Soon),
        (Self::ScanOrder, Expected::Soon),
        (Self::TombstoneFirst, Expected::Soon),
        (Self::SecondLook, Expected::Soon),
        (Self::MarkOfDead, Expected::Soon),
        (Self::Adopt, Expected::Soon),
        (Self::Quarantine, Expected::Soon),
        (
            Self::WordBeforeRing,
            Expected::Never("the ring is read only at rest, and an agent that adopts mends it"),
        ),
        (Self::JoinCopies, Expected::Soon),
        (Self::FleetAgrees, Expected::Soon),
        (Self::TrackedIsMarked, Expected::Soon),
        (Self::MarksOfPolicy, Expected::Soon),
        (Self::MarksBeforePolicy, Expected::Soon),
    ];

    /// The rule of a packet without this part.
    pub(crate) fn select<T: Tables>(
        self,
        tables: &mut T,
        slot: SlotWord,
        packet: Kind,
        always: bool,
    ) -> Verdict {
        macro_rules! without {
            ($($variant:ident $part:ident),* $(,)?) => {
                match self {
                    $(Self::$variant => {
                        select_without::<T, { without::$part }>(tables, slot, packet, always)
                    })*
                    // Whatever is not of the packet's half leaves it whole.
                    _ => select(tables, slot, packet, always),
                }
            };
        }
        without!(
                PendingReadFirst PENDING_READ_FIRST,
                FlowsWrittenFirst FLOWS_WRITTEN_FIRST,
                SynFollowsPending SYN_FOLLOWS_PENDING,
                SynFollowsFlow SYN_FOLLOWS_FLOW,
                PortUsedAgain PORT_USED_AGAIN,
                RecordBesideFlow RECORD_BESIDE_FLOW,
                RecordBesidePending RECORD_BESIDE_PENDING,
                SettlingRecords SETTLING_RECORDS,
                MissOfSyn MISS_OF_SYN,
                MissOfFull MISS_OF_FULL,
                MissOfSegment MISS_OF_SEGMENT,
                MissOfRecorded MISS_OF_RECORDED,
                Tombstone TOMBSTONE,
                FullFollowsFlow FULL_FOLLOWS_FLOW,
                FullDropsDown FULL_DROPS_DOWN,
                Sequence SEQUENCE,
                Confirm CONFIRM,
                TouchFlow TOUCH_FLOW,
                ConfirmedStays CONFIRMED_STAYS,
                Ttl TTL,
                DeadMoves DEAD_MOVES,
        )
    }
}
