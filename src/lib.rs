//! podeip gives a Kubernetes pod its own Alibaba Cloud elastic IP while its network is set up.
//!
//! Arrows go one way: `main → ops, cni → eip → state | cloud | kube | net → http, bounded,
//! durable, deadline, measure, names, strategy`, and there is none among `state`, `cloud`, `kube` and `net`.

pub mod bounded;
pub mod cloud;
pub mod cni;
pub mod crash;
pub mod deadline;
pub mod durable;
pub mod eip;
pub mod http;
pub mod kube;
pub mod logging;
pub mod measure;
pub mod names;
pub mod net;
pub mod ops;
pub mod secret;
pub mod settings;
pub mod state;
pub mod strategy;
