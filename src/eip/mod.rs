//! The domain: what a pod asks for, and how it gets and loses its EIP.

pub mod request;
