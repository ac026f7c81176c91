//! From facts to what edges need to know. Pure: the same facts give the same snapshot.

mod routes;
mod step;

pub use routes::{PlanSettings, plan};
pub use step::{Touched, step};
