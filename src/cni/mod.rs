//! The CNI wire: request, stanza, result, error and dispatch. Knows no EIP.
