//! What the kernel and the agent share.
#![cfg_attr(not(test), no_std)]
