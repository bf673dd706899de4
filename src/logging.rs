//! The log file: one line a record, rotated by size, without secrets.
