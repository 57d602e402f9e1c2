//! The lab of network namespaces in which xlb is tested and demonstrated, and the demonstration.

pub mod churn;
pub mod demo;
pub mod lab;
