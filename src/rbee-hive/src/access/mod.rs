//! Who may do what: roles, tokens, certificates, and the record of what was changed by whom.
//!
//! ```text
//!  tokens file ─┐
//!  cert, key ───┴─► Watched (read before the privileges go, again when changed) ─► TokenSet, ServerTls
//!  [access], uid, token, certificate ─► AccessRules ─► Identity{who, from, role} ─► audit
//! ```
//! Must never know HTTP, methods or workers.

pub(crate) mod audit;
mod identity;
mod role;
mod rules;
mod state;
mod tls;
mod tokens;
mod watched;

pub(crate) use audit::Denials;
pub(crate) use identity::Identity;
pub(crate) use role::Role;
pub(crate) use rules::{AccessRules, Credentials, Decision};
pub(crate) use state::AccessState;
pub(crate) use tls::{Certificate, HANDSHAKE, ServerTls, read_tls};
pub(crate) use tokens::{NewToken, TokenHash, TokenSet, token_hash};
pub(crate) use watched::{Owners, Readers, Watched};
