//! Black-box tests: the built executable, run the way a container runtime, a node agent or an operator runs it.

mod commands;
mod containerd;
mod crash;
mod kubeconfigs;
mod lifecycle;
mod many;
mod named;
mod node;
mod outages;
mod plain;
mod podman;
mod recorder;
mod refusals;
mod repeat;
mod review;
mod runtime;
mod scene;
mod secrets;
mod stage;
