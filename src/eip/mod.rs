//! The domain: what a pod asks for, and how it gets and loses its EIP.
//!
//! [`verbs`] is the way in. [`attach`] and [`detach`] are the two directions of the state machine,
//! [`journal`] puts each of its steps on disk first, [`bind`] and [`allocate`] are its dealings
//! with the cloud and [`publish`] those with the cluster.

pub mod allocate;
pub mod at_once;
pub mod attach;
pub mod bind;
pub mod coexist;
pub mod collect;
pub mod compare;
pub mod conclude;
pub mod contest;
pub mod detach;
pub mod egress;
pub mod failure;
pub mod guard;
pub mod journal;
pub mod lasting;
pub mod migrate;
pub mod node;
pub mod owner;
pub mod package;
mod polls;
pub mod publish;
pub mod reconcile;
pub mod release;
pub mod request;
pub mod retire;
pub mod rrsa;
pub mod sandbox;
pub mod surroundings;
pub mod sweep;
pub mod upkeep;
pub mod verbs;
pub mod views;
