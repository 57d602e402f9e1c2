//! Policies with a real agent and real traffic: who gets a connection, and that connections stay when
//! backends, policy or agent change.

#[path = "policies/affinity.rs"]
mod affinity;
#[path = "policies/datagrams.rs"]
mod datagrams;
#[path = "policies/least_connections.rs"]
mod least_connections;
#[path = "policies/round_robin.rs"]
mod round_robin;
#[path = "policies/stage.rs"]
mod stage;
