//! Named points between two effects, at which a test has the process die. They are there only with the feature
//! `crash-points`, which the shipped executable is built without.

#[cfg(feature = "crash-points")]
mod armed;

#[cfg(feature = "crash-points")]
pub use armed::point;

/// The process is between two effects; `what` says of which subject, and what has just happened to it.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_what: std::fmt::Arguments<'_>) {}
