//! Alibaba Cloud: signed RPC calls, credentials, instance metadata.
