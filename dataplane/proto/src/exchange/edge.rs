//! The edge's side of heads: a visitor's request becomes a stream head, a stream's response head becomes
//! what the visitor gets. Source: protocol/data-streams.md §2 and §3.

mod request;
mod response;

pub use request::{BodyLength, HeaderPolicy, RequestError, RequestHead, Visitor, encode};
pub use response::{ResponseError, ResponseHead, read};
