//! The lab of network namespaces in which xlb is tested and demonstrated.

pub mod lab;
