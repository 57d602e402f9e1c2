//! The agent and the host that it runs on: limits, capabilities, interfaces, addresses, neighbours.

#[path = "host/announce.rs"]
mod announce;
#[path = "host/clients.rs"]
mod clients;
#[path = "host/interfaces.rs"]
mod interfaces;
#[path = "host/stage.rs"]
mod stage;
#[path = "host/start.rs"]
mod start;
