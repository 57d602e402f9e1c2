//! The lab of network namespaces in which xlb is tested and demonstrated, the demonstration, the model
//! that its data path is held against, and what runs as the first process of other kernels.

pub mod churn;
pub mod demo;
pub mod fuzz;
pub mod guest;
pub mod lab;
pub mod model;
pub mod programs;
pub mod strict;
