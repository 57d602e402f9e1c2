//! The agent's life, from outside: its commands, its privileges, its restarts, its end.

#[path = "agent/alone.rs"]
mod alone;
#[path = "agent/changes.rs"]
mod changes;
#[path = "agent/commands.rs"]
mod commands;
#[path = "agent/health.rs"]
mod health;
#[path = "agent/interrupt.rs"]
mod interrupt;
#[path = "agent/metrics.rs"]
mod metrics;
#[path = "agent/privileges.rs"]
mod privileges;
#[path = "agent/reload.rs"]
mod reload;
#[path = "agent/restart.rs"]
mod restart;
#[path = "agent/stage.rs"]
mod stage;
#[path = "agent/unload.rs"]
mod unload;
