//! Network namespaces and netlink: which interface carries a private IP.
