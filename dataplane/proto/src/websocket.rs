//! WebSockets as far as Adit speaks them itself: heads of frames, bytes carried in binary messages, and short
//! texts.
//!
//! Carried payloads are handled while they arrive, so a message of any size needs the memory of one chunk.
//! Texts are collected up to a limit.
//!
//! Does not: know the handshake, agree to extensions, or look at sockets that are only relayed.
//!
//! Source: RFC 6455 §5.

pub mod frame;
pub mod carrier;
pub mod message;

pub use carrier::{Carried, Carrier};
pub use frame::{Peer, Unlawful};
pub use message::{MessageError, Messages, Told};
