//! The simulated world that podeip is tested against.

pub mod clock;
pub mod exchange;
