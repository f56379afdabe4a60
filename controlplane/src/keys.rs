//! The keys of an instance: its certificate authority, the certificate of its xDS server, and
//! those of its Envoys.
//!
//! ```text
//! store (Secrets, or a directory) --load--> Bundle --plan (pure)--> Bundle --save--> store
//!                                                     |                        |
//!                                                     +--> rustls ServerConfig  +--> Envoy's mount
//! ```
//!
//! - [`authority`]: what there is and what there should be: a pure function of bundle and clock;
//! - [`lifetimes`]: how long things live, and when they are renewed;
//! - [`subject`]: whom the certificates name;
//! - [`material`]: certificates and keys, read without trust in who wrote them;
//! - [`store`]: where they are kept;
//! - [`tls`]: the TLS side of the xDS server, replaced without a restart;
//! - [`run`]: the loop over all of that.
//!
//! The tenant may read and write the Secrets: they are of its own namespace. So nothing here
//! believes them. What is damaged or of someone else is replaced, with a warning; whoever plants
//! a whole and fitting authority reaches its own instance and no other, since each instance has
//! an authority of its own.

pub mod authority;
pub mod lifetimes;
mod make;
pub mod material;
pub mod run;
pub mod store;
pub mod subject;
pub mod tls;

pub use authority::{Bundle, Changed, Plan, plan};
pub use lifetimes::Lifetimes;
pub use run::{Clock, Keeper, SystemClock};
pub use store::Part;
pub use subject::Subject;

#[cfg(test)]
mod testing;
