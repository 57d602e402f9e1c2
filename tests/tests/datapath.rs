//! The XDP programs by themselves: frames in, actions, bytes and counters out, by `BPF_PROG_TEST_RUN`.
//! It needs root and the eBPF object, and no interface of its own.

#[path = "datapath/check.rs"]
mod check;
#[path = "datapath/decap.rs"]
mod decap;
#[path = "datapath/decap_chance.rs"]
mod decap_chance;
#[path = "datapath/decap_rig.rs"]
mod decap_rig;
#[path = "datapath/decap_tunnels.rs"]
mod decap_tunnels;
#[path = "datapath/decap_udp.rs"]
mod decap_udp;
#[path = "datapath/forwarding.rs"]
mod forwarding;
#[path = "datapath/fragments.rs"]
mod fragments;
#[path = "datapath/frame.rs"]
mod frame;
#[path = "datapath/full_nat.rs"]
mod full_nat;
#[path = "datapath/icmp.rs"]
mod icmp;
#[path = "datapath/kinds.rs"]
mod kinds;
#[path = "datapath/local.rs"]
mod local;
#[path = "datapath/loops.rs"]
mod loops;
#[path = "datapath/mixed.rs"]
mod mixed;
#[path = "datapath/moving.rs"]
mod moving;
#[path = "datapath/odd.rs"]
mod odd;
#[path = "datapath/policies.rs"]
mod policies;
#[path = "datapath/program.rs"]
mod program;
#[path = "datapath/refusals.rs"]
mod refusals;
#[path = "datapath/replies.rs"]
mod replies;
#[path = "datapath/rest.rs"]
mod rest;
#[path = "datapath/rig.rs"]
mod rig;
#[path = "datapath/sctp.rs"]
mod sctp;
#[path = "datapath/second_chance.rs"]
mod second_chance;
#[path = "datapath/slots.rs"]
mod slots;
#[path = "datapath/sockets.rs"]
mod sockets;
#[path = "datapath/too_big.rs"]
mod too_big;
#[path = "datapath/vlan.rs"]
mod vlan;
#[path = "datapath/wide.rs"]
mod wide;
