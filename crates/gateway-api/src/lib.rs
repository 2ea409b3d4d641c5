//! What goes over the wire between the gateway and its clients.
//!
//! The routes below `/api/` and the thirteen keys of a [`Record`] are Shifter's: its clients parse them strictly.
//! Everything else is Gantry's own and stands beside them, in further keys and routes.
#![forbid(unsafe_code)]

mod credential;
mod error;
mod event;
mod record;
pub mod routes;

pub use credential::{AUTHENTICATION_HEADER, BindingError, CREDENTIAL_TTL_SECONDS, Payload};
pub use error::{Code, ErrorBody};
pub use event::{ALREADY_THERE, LayerProgress, LayerState, PullEvent};
pub use record::{
    Details, ImportRequest, Known, LayerDetail, ListReply, PullRequest, QueueEntry, QueueReply,
    Record, Removed, Status, StatusReply, WhoAmI,
};
