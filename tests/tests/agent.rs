//! The agent's life, from outside: its commands, its privileges, its restarts, its end.

#[path = "agent/alone.rs"]
mod alone;
#[path = "agent/commands.rs"]
mod commands;
#[path = "agent/privileges.rs"]
mod privileges;
#[path = "agent/stage.rs"]
mod stage;
#[path = "agent/unload.rs"]
mod unload;
