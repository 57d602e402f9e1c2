//! Traffic through the real agent and program, from client to backend and back: every forwarding
//! mode over every kind of network, and next hops that change.

#[path = "traffic/behind.rs"]
mod behind;
#[path = "traffic/flows.rs"]
mod flows;
#[path = "traffic/fragments.rs"]
mod fragments;
#[path = "traffic/full_nat.rs"]
mod full_nat;
#[path = "traffic/links.rs"]
mod links;
#[path = "traffic/local.rs"]
mod local;
#[path = "traffic/modes.rs"]
mod modes;
#[path = "traffic/next_hops.rs"]
mod next_hops;
#[path = "traffic/odd.rs"]
mod odd;
#[path = "traffic/path_mtu.rs"]
mod path_mtu;
#[path = "traffic/plain.rs"]
mod plain;
#[path = "traffic/replies.rs"]
mod replies;
#[path = "traffic/stage.rs"]
mod stage;
#[path = "traffic/tunnels.rs"]
mod tunnels;
#[path = "traffic/wide.rs"]
mod wide;
