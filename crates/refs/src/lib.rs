//! Objects as Postern sees them, and the references between them.
//!
//! [`objects`] are the compact types that everything is lowered to at the door (in the crate
//! `postern-watch`); a [`Snapshot`] holds them by kind and [`Key`]. Unlike the API server's
//! objects they hold only what is read, and say what they hold that is *not* understood
//! ([`Object::unsupported`], [`Body::Invalid`]), so that nothing is ignored in silence.
//!
//! The same resolving code serves consent (in the operator) and translation (in the control
//! plane), so that the two cannot disagree.

pub mod attach;
pub mod instance;
pub mod objects;
pub mod permit;

mod field;
mod key;
mod snapshot;
pub mod status;

pub use field::{FieldPath, Segment};
pub use key::{Key, Name, Source};
pub use objects::{Body, Meta, Object, ObjectRef};
pub use snapshot::{Kind, Map, Snapshot};
