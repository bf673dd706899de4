//! Kubernetes: the pod, its PodEIP and its events.
