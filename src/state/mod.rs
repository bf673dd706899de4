//! The node's lasting state: which sandbox got which EIP, and how far it came.

pub mod format;
