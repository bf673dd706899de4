//! Black-box tests: the built executable, run the way a container runtime, a node agent or an operator runs it.

mod agent;
mod commands;
mod containerd;
mod crash;
mod doubt;
mod durability;
mod kubeconfigs;
mod lifecycle;
mod many;
mod measures;
mod named;
mod node;
mod orphans;
mod outages;
mod ownership;
mod plain;
mod podman;
mod recorder;
mod refusals;
mod repeat;
mod runtime;
mod scene;
mod secrets;
mod stage;
mod sweeper;
