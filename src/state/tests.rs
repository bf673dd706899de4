//! Tests of the store with real processes, kills and full disks.
