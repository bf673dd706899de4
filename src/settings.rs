//! `eni_conf`: the ConfigMap's settings as they lie on the node.
