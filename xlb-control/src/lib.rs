//! What xlb's agent and gateway share: the configuration and its validation, health checks, and
//! the control API's types and client. Nothing here knows of BPF.

pub mod api;
pub mod config;
pub mod health;
