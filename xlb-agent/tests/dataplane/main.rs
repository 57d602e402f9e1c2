//! The data path's layer on the real kernel. Needs root; every test has namespaces of its own, which
//! end with it.

mod decap;
mod growth;
mod interfaces;
mod lifecycle;
mod sandbox;
mod settling;
mod tables;
