//! The simulated world that podeip is tested against: Alibaba Cloud's VPC, ECS and STS endpoints,
//! instance metadata and a Kubernetes API server, all on loopback.
//!
//! [`world::World`] starts all of it inside a test; the binary `podeip-sim` serves the same world
//! to people, with [`control`] in front.

pub mod calls;
pub mod clock;
pub mod cloud;
mod config;
pub mod control;
mod conversation;
pub mod exchange;
pub mod faults;
pub mod gates;
pub mod kube;
mod outgoing;
mod passage;
mod refusal;
mod serve;
pub mod tls;
pub mod world;
