//! Why an exchange did not end well, and what the edge is told of it.

use adit_proto::error_chain::chain;
use adit_proto::exchange::connector::{RequestError, UnknownCoding};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::reach::{Reach, UNREACHABLE};
use adit_proto::flow_policy::FlowRefusal;
use adit_wire::connect::HeadError;

use super::HEAD_DEADLINE;
use crate::edge_stream::{Excuse, Gone, SendHeadError};
use crate::origin::OriginError;
use crate::origin::head_limit::TooMuch;
use crate::origin::tcp::DestinationError;
use crate::origin::tcp::conversation::ConversationError;

/// Why an exchange did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("no valid head")]
    Head(#[from] HeadError),
    #[error("no head within {HEAD_DEADLINE:?}")]
    HeadDeadline,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// No connection to where the visitor wanted to go.
    #[error(transparent)]
    Asked(OriginError),
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error("ParseAddr({0:?}): unable to parse IP")]
    FlowAddress(String),
    #[error(transparent)]
    FlowRefused(#[from] FlowRefusal),
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    #[error("the origin's response head cannot be passed on")]
    ResponseHead(#[source] SendHeadError),
    #[error("the origin switched protocols without being asked")]
    Unasked,
    #[error(transparent)]
    Coding(#[from] UnknownCoding),
    #[error("the origin broke off its response")]
    ResponseBody(#[source] hyper::Error),
    #[error("the upgraded connection broke off")]
    Relay,
    #[error("the visitor broke its upload off")]
    Upload,
    #[error("Incoming request ended abruptly: context canceled")]
    Cancelled,
}

impl ExchangeError {
    /// Whether the visitor went away, which is no failure.
    pub(super) fn is_the_visitors(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Upload)
    }

    /// What the edge is told, if it is still owed a response head.
    pub(super) fn excuse(&self) -> Option<Excuse> {
        let excuse = |text, reach| Some(Excuse { text, reach });
        match self {
            Self::Unasked | Self::Coding(_) | Self::ResponseHead(_) => excuse(chain(self), Reach::Unknown),
            // The visitor's doing, so it tells nothing of an origin.
            Self::Request(_) | Self::Destination(_) | Self::FlowAddress(_) | Self::FlowRefused(_) => {
                excuse(chain(self), Reach::Asked)
            }
            Self::Origin(error) => excuse(format!("{UNREACHABLE}: {}", chain(error)), error.reach()),
            Self::Asked(error) => excuse(format!("{UNREACHABLE}: {}", chain(error)), Reach::Asked),
            Self::Head(_)
            | Self::HeadDeadline
            | Self::ResponseBody(_)
            | Self::Conversation(_)
            | Self::Relay
            | Self::Upload
            | Self::Cancelled => None,
        }
    }

    /// The error code of the answer to the visitor, if this failure has one. Edges of other makes pass such
    /// an answer on as if it were the origin's own.
    pub(super) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Origin(OriginError::Busy(_)) => Some(ErrorCode::OriginBusy),
            Self::Origin(OriginError::Http { source })
                if source.is_parse_too_large() || TooMuch::is_cause_of(source) =>
            {
                Some(ErrorCode::OriginHeadTooLarge)
            }
            Self::Origin(OriginError::Http { source }) if source.is_parse() => {
                Some(ErrorCode::OriginBadResponse)
            }
            Self::ResponseHead(_) => Some(ErrorCode::OriginHeadTooLarge),
            Self::Unasked | Self::Coding(_) => Some(ErrorCode::OriginBadResponse),
            Self::Head(_)
            | Self::HeadDeadline
            | Self::Request(_)
            | Self::Origin(_)
            | Self::Asked(_)
            | Self::Destination(_)
            | Self::FlowAddress(_)
            | Self::FlowRefused(_)
            | Self::Conversation(_)
            | Self::ResponseBody(_)
            | Self::Relay
            | Self::Upload
            | Self::Cancelled => None,
        }
    }
}

impl From<SendHeadError> for ExchangeError {
    fn from(error: SendHeadError) -> Self {
        match error {
            SendHeadError::Gone(Gone) => Self::Cancelled,
            SendHeadError::Head(_) | SendHeadError::TooLarge(_) => Self::ResponseHead(error),
        }
    }
}

impl From<Gone> for ExchangeError {
    fn from(Gone: Gone) -> Self {
        Self::Cancelled
    }
}
