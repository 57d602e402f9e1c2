use super::{BackendFlags, Flow, Insert, Kind, Pending, SlotWord, Tables, What, select};
use crate::maps::backend_flag::{DEAD, DOWN, DRAIN, USED};

const STABLE: u16 = 1;
const TARGET: u16 = 2;
const OTHER: u16 = 3;
const NOW_S: u32 = 1000;
const ISN: u32 = u32::MAX - 1;
const MOVING: SlotWord = SlotWord::marked(STABLE, TARGET);

/// Tables that write down what was done to them.
struct Sheet {
    pending: Option<Pending>,
    flow: Option<Flow>,
    flags: [u16; 4],
    pending_room: bool,
    flows_room: bool,
    choice: u16,
    log: Vec<String>,
}

impl Default for Sheet {
    fn default() -> Self {
        Self {
            pending: None,
            flow: None,
            flags: [0, USED, USED, USED],
            pending_room: true,
            flows_room: true,
            choice: 0,
            log: Vec::new(),
        }
    }
}

impl Sheet {
    fn with_pending(backend: u16, isn: u32, age_s: u32) -> Self {
        Self {
            pending: Some(Pending {
                backend,
                isn,
                time_s: NOW_S - age_s,
                confirmed: false,
                tombstone: false,
            }),
            ..Self::default()
        }
    }

    fn with_flow(backend: u16, isn: u32) -> Self {
        Self {
            flow: Some(Flow {
                backend,
                isn,
                seen_s: NOW_S - 100,
                tombstone: false,
            }),
            ..Self::default()
        }
    }

    fn insert(room: bool, exists: bool) -> Insert {
        match (exists, room) {
            (true, _) => Insert::Exists,
            (false, true) => Insert::Inserted,
            (false, false) => Insert::Full,
        }
    }

    /// Backend, why, and what was done, as one line.
    fn run(mut self, slot: SlotWord, kind: Kind) -> (u16, What, String) {
        let always_tracked = self.choice != 0;
        let verdict = select(&mut self, slot, kind, always_tracked);
        (verdict.backend, verdict.what, self.log.join(" "))
    }

    fn syn(self) -> (u16, What, String) {
        self.run(MOVING, Kind::Syn { isn: ISN })
    }

    fn segment(self, sequence: u32) -> (u16, What, String) {
        self.run(MOVING, Kind::Segment { sequence })
    }
}

impl Tables for Sheet {
    fn now_s(&mut self) -> u32 {
        NOW_S
    }
    fn pending(&mut self) -> Option<Pending> {
        self.log.push("p?".into());
        self.pending
    }
    fn flow(&mut self) -> Option<Flow> {
        self.log.push("f?".into());
        self.flow
    }
    fn flags(&mut self, backend: u16) -> BackendFlags {
        BackendFlags(self.flags[usize::from(backend)])
    }
    fn choose(&mut self) -> u16 {
        self.choice
    }
    fn insert_pending(&mut self, backend: u16, _: u32, _: u32) -> Insert {
        self.log.push(format!("p+{backend}"));
        Self::insert(self.pending_room, self.pending.is_some())
    }
    fn overwrite_pending(&mut self, backend: u16, _: u32, _: u32) {
        self.log.push(format!("p={backend}"));
    }
    fn touch_pending(&mut self, _: u32) {
        self.log.push("p!".into());
    }
    fn reopen_pending(&mut self, _: u32, _: u32) {
        self.log.push("p isn".into());
    }
    fn confirm_pending(&mut self, _: u32) {
        self.log.push("p confirm".into());
    }
    fn delete_pending(&mut self) {
        self.log.push("p-".into());
    }
    fn insert_flow(&mut self, backend: u16, _: u32, _: u32) -> Insert {
        self.log.push(format!("f+{backend}"));
        Self::insert(self.flows_room, self.flow.is_some())
    }
    fn overwrite_flow(&mut self, backend: u16, _: u32, _: u32) {
        self.log.push(format!("f={backend}"));
    }
    fn touch_flow(&mut self, _: u32) {
        self.log.push("f!".into());
    }
    fn reopen_flow(&mut self, _: u32, _: u32) {
        self.log.push("f isn".into());
    }
    fn touch_last_miss(&mut self, now_s: u32) {
        assert_eq!(now_s, NOW_S);
        self.log.push("miss".into());
    }
}

fn expect(backend: u16, what: What, log: &str) -> (u16, What, String) {
    (backend, what, log.to_owned())
}

#[test]
fn a_slot_at_rest_touches_no_table() {
    for kind in [
        Kind::Syn { isn: ISN },
        Kind::Segment { sequence: 5 },
        Kind::Untracked,
        Kind::Datagram,
        Kind::TrackedDatagram,
    ] {
        let sheet = Sheet::with_pending(OTHER, ISN, 0);
        assert_eq!(
            sheet.run(SlotWord::rest(STABLE), kind),
            expect(STABLE, What::Rest, "")
        );
    }
}

#[test]
fn a_new_connection_is_recorded_at_target_and_promoted() {
    assert_eq!(
        Sheet::default().syn(),
        expect(TARGET, What::SynRecorded, "p? f? p+2")
    );
    // The sequence number wraps around.
    for ahead in [0, 1, 1000, 65_536] {
        assert_eq!(
            Sheet::with_pending(TARGET, ISN, 0).segment(ISN.wrapping_add(ahead)),
            expect(TARGET, What::Promoted, "p? f? f+2 p-")
        );
    }
    for far in [ISN.wrapping_add(65_537), ISN - 1] {
        assert_eq!(
            Sheet::with_pending(TARGET, ISN, 0).segment(far),
            expect(STABLE, What::Missed, "p? f? miss")
        );
    }
}

#[test]
fn a_handshake_that_finds_no_room_in_flows_is_confirmed() {
    let sheet = Sheet {
        flows_room: false,
        ..Sheet::with_pending(TARGET, ISN, 0)
    };
    assert_eq!(
        sheet.segment(ISN + 1),
        expect(TARGET, What::Confirmed, "p? f? f+2 p confirm")
    );
    let mut sheet = Sheet::with_pending(TARGET, ISN, 900);
    sheet.flows_room = false;
    if let Some(pending) = &mut sheet.pending {
        pending.confirmed = true;
    }
    assert_eq!(
        sheet.segment(77),
        expect(TARGET, What::Confirmed, "p? f? f+2 p!")
    );
}

#[test]
fn a_confirmed_flow_is_not_taken_over_by_another_syn() {
    let confirmed = || {
        let mut sheet = Sheet::with_pending(OTHER, 5, 900);
        if let Some(pending) = &mut sheet.pending {
            pending.confirmed = true;
        }
        sheet
    };
    assert_eq!(
        confirmed().syn(),
        expect(OTHER, What::FullReused, "p? f? p isn")
    );
    let mut down = confirmed();
    down.flags[3] |= DOWN;
    assert_eq!(down.syn(), expect(0, What::FullDropped, "p? f?"));
}

#[test]
fn a_syn_seen_before_follows_its_first() {
    assert_eq!(
        Sheet::with_pending(OTHER, ISN, 64).syn(),
        expect(OTHER, What::SynAgain, "p? f? p!")
    );
    assert_eq!(
        Sheet::with_flow(OTHER, ISN).syn(),
        expect(OTHER, What::SynAgain, "p? f? f!")
    );
    // Expired, another connection, or a backend that is gone: recorded anew.
    let mut dead = Sheet::with_pending(OTHER, ISN, 0);
    dead.flags[3] |= DEAD;
    for sheet in [
        Sheet::with_pending(OTHER, ISN, 65),
        Sheet::with_pending(OTHER, 5, 0),
        dead,
    ] {
        assert_eq!(
            sheet.syn(),
            expect(TARGET, What::SynRecorded, "p? f? p+2 p? p=2")
        );
    }
}

#[test]
fn a_port_used_again_stays_where_it_was_if_that_accepts() {
    assert_eq!(
        Sheet::with_flow(STABLE, 5).syn(),
        expect(STABLE, What::SynRecorded, "p? f? p+1")
    );
    for bits in [DRAIN, DOWN, DEAD] {
        let mut sheet = Sheet::with_flow(OTHER, 5);
        sheet.flags[3] |= bits;
        assert_eq!(sheet.syn(), expect(TARGET, What::SynRecorded, "p? f? p+2"));
    }
}

#[test]
fn stable_needs_no_record_unless_it_settles() {
    let home = SlotWord::marked(STABLE, STABLE);
    let syn = Kind::Syn { isn: ISN };
    assert_eq!(
        Sheet::default().run(home, syn),
        expect(STABLE, What::SynUnrecorded, "p? f? miss")
    );
    assert_eq!(
        Sheet::default().run(home.with_settling(true), syn),
        expect(STABLE, What::SynRecorded, "p? f? p+1")
    );
    assert_eq!(
        Sheet::with_flow(OTHER, 5).run(home, syn).2,
        "p? f? p+3",
        "a record that points elsewhere has to be replaced"
    );
}

#[test]
fn a_syn_without_room_goes_to_stable_or_not_at_all() {
    let full = |sheet| Sheet {
        pending_room: false,
        ..sheet
    };
    assert_eq!(
        full(Sheet::default()).syn(),
        expect(STABLE, What::FullToStable, "p? f? p+2 miss")
    );
    assert_eq!(
        full(Sheet::with_flow(OTHER, 5)).syn(),
        expect(OTHER, What::FullReused, "p? f? p+3 f isn")
    );
    let mut down = full(Sheet::default());
    down.flags[1] |= DOWN;
    assert_eq!(down.syn(), expect(0, What::FullDropped, "p? f? p+2"));
    assert_eq!(
        full(Sheet::default()).run(MOVING.with_settling(true), Kind::Syn { isn: ISN }),
        expect(0, What::FullDropped, "p? f? p+2")
    );
    let mut down = full(Sheet::with_flow(OTHER, 5));
    down.flags[3] |= DOWN;
    assert_eq!(down.syn(), expect(0, What::FullDropped, "p? f? p+2"));
}

#[test]
fn nothing_is_recorded_beside_a_tombstone() {
    let buried = || {
        let mut sheet = Sheet::with_flow(OTHER, 5);
        if let Some(flow) = &mut sheet.flow {
            flow.tombstone = true;
        }
        sheet
    };
    assert_eq!(buried().syn(), expect(0, What::TombstoneDropped, "p? f?"));
    assert_eq!(
        buried().segment(9),
        expect(OTHER, What::Recorded, "p? f? f!")
    );
    let sheet = Sheet {
        flow: buried().flow,
        ..Sheet::with_pending(TARGET, ISN, 0)
    };
    assert_eq!(
        sheet.segment(ISN + 1),
        expect(TARGET, What::Confirmed, "p? f? p confirm")
    );
}

#[test]
fn a_recorded_flow_that_needs_stable_counts_as_a_miss() {
    for (slot, log) in [
        (SlotWord::marked(STABLE, TARGET), "p? f? f! miss"),
        (SlotWord::marked(STABLE, STABLE), "p? f? f!"),
        (SlotWord::marked(OTHER, TARGET), "p? f? f!"),
    ] {
        let sheet = Sheet::with_flow(STABLE, 5);
        assert_eq!(
            sheet.run(slot, Kind::Segment { sequence: 9 }),
            expect(STABLE, What::Recorded, log)
        );
    }
}

#[test]
fn an_older_handshake_of_the_port_is_replaced() {
    assert_eq!(
        Sheet::with_pending(OTHER, 5, 0)
            .run(SlotWord::marked(STABLE, STABLE), Kind::Syn { isn: ISN }),
        expect(STABLE, What::SynRecorded, "p? f? p+1 p? p=1")
    );
}

#[test]
fn flows_of_a_dead_backend_move_to_target() {
    let mut sheets = [
        Sheet::with_pending(OTHER, ISN, 0),
        Sheet::with_flow(OTHER, 5),
        Sheet::default(),
    ];
    for sheet in &mut sheets {
        sheet.flags[1] |= DEAD;
        sheet.flags[3] |= DEAD;
    }
    for sheet in sheets {
        let (backend, what, _) = sheet.segment(ISN + 1);
        assert_eq!((backend, what), (TARGET, What::Moved));
    }
}

#[test]
fn errors_and_fragments_follow_their_flow_and_record_nothing() {
    let run = |sheet: Sheet| sheet.run(MOVING, Kind::Untracked);
    assert_eq!(
        run(Sheet::with_pending(OTHER, ISN, 0)),
        expect(OTHER, What::Untracked, "p? f?")
    );
    assert_eq!(
        run(Sheet::with_flow(TARGET, 5)),
        expect(TARGET, What::Untracked, "p? f?")
    );
    assert_eq!(
        run(Sheet::default()),
        expect(STABLE, What::Untracked, "p? f?")
    );
}

#[test]
fn datagrams_move_at_once_or_are_recorded() {
    assert_eq!(
        Sheet::default().run(MOVING, Kind::Datagram),
        expect(TARGET, What::Datagram, "")
    );
    let tracked = |sheet: Sheet| {
        Sheet {
            choice: OTHER,
            ..sheet
        }
        .run(MOVING, Kind::TrackedDatagram)
    };
    assert_eq!(
        tracked(Sheet::default()),
        expect(OTHER, What::FlowRecorded, "f? f+3")
    );
    assert_eq!(
        tracked(Sheet::with_flow(STABLE, 0)),
        expect(STABLE, What::Recorded, "f? f!")
    );
    assert_eq!(
        tracked(Sheet {
            flows_room: false,
            ..Sheet::default()
        }),
        expect(STABLE, What::FlowFull, "f? f+3 miss")
    );
    let mut dead = Sheet::with_flow(STABLE, 0);
    dead.flags[1] |= DEAD;
    assert_eq!(tracked(dead), expect(OTHER, What::FlowRecorded, "f? f=3"));
}

#[test]
fn a_policy_that_tracks_always_records_always() {
    let sheet = Sheet {
        choice: STABLE,
        ..Sheet::default()
    };
    assert_eq!(sheet.syn(), expect(STABLE, What::SynRecorded, "p? f? p+1"));
    // A policy that finds nobody leaves the choice to the ring.
    let home = SlotWord::marked(STABLE, STABLE);
    let verdict = select(&mut Sheet::default(), home, Kind::Syn { isn: ISN }, true);
    assert_eq!(
        (verdict.backend, verdict.what),
        (STABLE, What::SynRecorded),
        "another choice may follow"
    );
}

#[test]
fn a_policy_that_tracks_always_decides_anew_for_a_port_that_is_used_again() {
    let chosen = |sheet| Sheet {
        choice: OTHER,
        ..sheet
    };
    assert_eq!(
        chosen(Sheet::with_flow(STABLE, 5)).syn(),
        expect(OTHER, What::SynRecorded, "p? f? p+3")
    );
    // The same connection is nothing to decide.
    for sheet in [
        Sheet::with_flow(STABLE, ISN),
        Sheet::with_pending(STABLE, ISN, 0),
    ] {
        assert_eq!(chosen(sheet).syn().0, STABLE);
    }
}
