//! The lab of network namespaces.
