//! Simulations: pure state machines under random events, with a virtual clock and a seed that replays a
//! failure.
//!
//! Each module plays one machine against scripted peers and checks properties, not scripts. `ADIT_SIM_SEED`
//! replays one seed.
#![forbid(unsafe_code)]

mod seeds;
mod planner;
mod registrar;
mod delivery;
mod directory;
mod ejection;
mod supervisor;
mod origin_pool;
mod world;
