//! Black-box tests: the built executable, run the way a container runtime, a node agent or an operator runs it.

mod containerd;
mod lifecycle;
mod node;
mod outages;
mod podman;
mod recorder;
mod refusals;
mod scene;
