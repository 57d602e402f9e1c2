//! The agent's life, from outside: its commands, its privileges, its restarts, its end.

#[path = "agent/commands.rs"]
mod commands;
#[path = "agent/stage.rs"]
mod stage;
