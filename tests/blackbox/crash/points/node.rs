//! The agent and the installer die.
