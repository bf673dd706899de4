//! The CNI wire: request, stanza, result, error and dispatch. Knows no EIP.

pub mod conflist;
pub mod dispatch;
pub mod drop_in;
pub mod error;
pub mod request;
pub mod result;
pub mod stanza;
pub mod version;
