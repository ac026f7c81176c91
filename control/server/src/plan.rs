//! From facts to what edges need to know. Pure: the same facts give the same snapshot.

mod routes;

pub use routes::{PlanSettings, plan};
