//! The lab of network namespaces in which xlb is tested and demonstrated, the demonstration, and the
//! model that its data path is held against.

pub mod churn;
pub mod demo;
pub mod fuzz;
pub mod lab;
pub mod model;
