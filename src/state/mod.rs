//! The node's lasting state: which sandbox got which EIP, and how far it came.
//!
//! [`Store`] is the door. Everything it keeps is in one directory, owned by the effective user:
//!
//! | file | what | replaced | locked by |
//! |---|---|---|---|
//! | `state.json` | the attachments ([`mod@format`]) | atomically | `state.lock`, for reading and writing only |
//! | `state.json.corrupt-<time>` | a state file that did not parse, set aside | | |
//! | `pods/<sha1>.lock` | one lock for each pod name that a verb is working on | removed by its holder | itself |
//! | `agent.lock` | held while an agent lives on this node | never | itself |
//! | `looked.json` | which addresses carried an EIP at the last look | atomically | `looked.lock`, while one looks for all |
//! | `measures.jsonl` | what the last verbs took and were answered ([`measures`]) | atomically, when it has grown too long | itself, shared by those who append |
//! | `pace.json` | how long the cloud takes to bind and to unbind | atomically | nothing: losing it costs some looks |
//! | `rival.json` | which other EIP feature is active ([`Rival`]) | atomically, by the agent alone | nothing |
//! | `throttle.json` | which cloud calls were throttled lately | atomically | nothing: losing it costs one call |

mod changes;
mod directory;
mod error;
pub mod format;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod hint;
mod lock;
mod looked;
pub mod measures;
mod pace;
mod records;
mod rival;
mod store;
mod throttle;
mod watch;

pub use error::StateError;
pub use lock::{AgentLock, LivingAgent, PodLock};
pub use looked::{LookNote, LookTurn, Moment};
pub use pace::{Change, PaceNote};
pub use rival::{Rival, RivalNote, RivalSystem, Sighting};
pub use store::Store;
pub use throttle::ThrottleNote;
pub use watch::Watch;

#[cfg(test)]
mod tests;
