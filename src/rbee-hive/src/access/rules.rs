//! Who may call, and as what: a rule over what the kernel says of a caller, its certificate and its token.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::tokens::Found;
use super::{Certificate, Denials, Role, TokenHash, TokenSet, Watched};

/// Who may call.
#[derive(Debug, Default)]
pub(crate) struct AccessRules {
    /// Root, who started the hive, and configured users.
    pub(crate) uids: BTreeMap<u32, Role>,
    /// The socket's group and configured groups.
    pub(crate) gids: BTreeMap<u32, Role>,
    /// By a name or fingerprint of the certificate.
    pub(crate) certificates: BTreeMap<String, Role>,
    /// Of a certificate that is not named; the verifier has found it good.
    pub(crate) any_certificate: Option<Role>,
    /// Bearer tokens.
    pub(crate) tokens: Option<Arc<Watched<TokenSet>>>,
    /// Where refused callers are told.
    pub(crate) denials: Arc<Denials>,
}

/// What a caller shows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credentials<'a> {
    /// Its uid, where the kernel knows it.
    pub(crate) uid: Option<u32>,
    /// Its groups.
    pub(crate) gids: &'a [u32],
    /// Its certificate, verified.
    pub(crate) certificate: Option<&'a Certificate>,
    /// Its token.
    pub(crate) bearer: Option<&'a TokenHash>,
}

/// What the rules say to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is this one, in this role.
    Known {
        /// Its name.
        who: String,
        /// What it may do.
        role: Role,
    },
    /// Nobody knows who it is, or its token is wrong.
    Unauthorized {
        /// For the audit.
        why: String,
    },
    /// It is known, and not among those who may.
    Forbidden {
        /// Its name.
        who: String,
    },
}

impl AccessRules {
    /// Gives a user a role, where it has no higher one.
    pub(crate) fn grant_uid(&mut self, uid: u32, role: Role) {
        raise(&mut self.uids, uid, role);
    }

    /// Gives a group's members a role.
    pub(crate) fn grant_gid(&mut self, gid: u32, role: Role) {
        raise(&mut self.gids, gid, role);
    }

    /// Gives a role to whoever has a certificate of this name or fingerprint.
    pub(crate) fn grant_certificate(&mut self, name: &str, role: Role) {
        raise(&mut self.certificates, name.to_owned(), role);
    }

    /// Also lets in whoever presents `token`.
    #[cfg(test)]
    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.tokens = Some(Arc::new(Watched::fixed(TokenSet::of_one(token))));
        self
    }

    /// The rule itself. A token that is presented decides alone: a wrong one is not made good by an account, its sender believes to be
    /// somebody else.
    pub(crate) async fn decide(&self, shown: Credentials<'_>) -> Decision {
        match (shown.bearer, &self.tokens) {
            (None, _) => self.without_token(shown),
            (Some(_), None) => Decision::Unauthorized { why: "a token, where none is known".into() },
            (Some(bearer), Some(tokens)) => match tokens.fresh().await.find(bearer, Timestamp::now()) {
                Found::Valid(token) => Decision::Known { who: format!("token:{}", token.name), role: token.role },
                Found::Expired(token) => Decision::Unauthorized { why: format!("the token {} has expired", token.name) },
                Found::Unknown => Decision::Unauthorized { why: "an unknown token".into() },
            },
        }
    }

    fn without_token(&self, shown: Credentials<'_>) -> Decision {
        let by_gid = shown.uid.and_then(|_| shown.gids.iter().filter_map(|gid| self.gids.get(gid)).max().copied());
        let by_uid = shown.uid.and_then(|uid| self.uids.get(&uid).copied()).max(by_gid);
        let by_certificate = shown.certificate.and_then(|certificate| {
            let named = certificate.known_as().filter_map(|name| self.certificates.get(name)).max().copied();
            named.or(self.any_certificate)
        });
        let uid = shown.uid.map(|uid| format!("uid:{uid}"));
        let certificate = shown.certificate.map(|certificate| format!("certificate:{}", certificate.name()));
        match (by_uid.max(by_certificate), uid, certificate) {
            (Some(role), uid, certificate) => {
                let who = if by_certificate == Some(role) { certificate.or(uid) } else { uid };
                Decision::Known { who: who.unwrap_or_default(), role }
            }
            (None, None, None) => Decision::Unauthorized { why: "nothing says who it is".into() },
            (None, uid, certificate) => Decision::Forbidden { who: certificate.or(uid).unwrap_or_default() },
        }
    }
}

fn raise<K: Ord>(grants: &mut BTreeMap<K, Role>, to: K, role: Role) {
    let granted = grants.entry(to).or_insert(role);
    *granted = role.max(*granted);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::token_hash;

    fn rules() -> AccessRules {
        let mut rules = AccessRules::default();
        rules.grant_uid(0, Role::Admin);
        rules.grant_uid(1000, Role::Observe);
        rules.grant_gid(50, Role::Operate);
        rules
    }

    async fn role(rules: &AccessRules, shown: Credentials<'_>) -> Result<Role, bool> {
        match rules.decide(shown).await {
            Decision::Known { role, .. } => Ok(role),
            Decision::Forbidden { .. } => Err(true),
            Decision::Unauthorized { .. } => Err(false),
        }
    }

    #[tokio::test]
    async fn listed_users_and_members_of_listed_groups_have_the_highest_of_their_roles() {
        let of = async |uid, gids: &[u32]| role(&rules(), Credentials { uid, gids, ..Credentials::default() }).await;
        assert_eq!(of(Some(0), &[]).await, Ok(Role::Admin));
        assert_eq!(of(Some(1000), &[]).await, Ok(Role::Observe));
        assert_eq!(of(Some(1000), &[7, 50]).await, Ok(Role::Operate));
        assert_eq!(of(Some(1001), &[7, 50]).await, Ok(Role::Operate));
        assert_eq!(of(Some(1001), &[7]).await, Err(true));
        assert_eq!(of(None, &[]).await, Err(false));
        assert_eq!(of(None, &[50]).await, Err(false), "groups of nobody");
        let mut raised = rules();
        raised.grant_uid(0, Role::Observe);
        assert_eq!(raised.uids[&0], Role::Admin, "a later grant takes nothing away");
    }

    #[tokio::test]
    async fn the_token_decides_alone() {
        let with = rules().with_token("secret");
        let of = async |rules: &AccessRules, uid, token: &str| {
            role(rules, Credentials { uid, bearer: Some(&token_hash(token)), ..Credentials::default() }).await
        };
        assert_eq!(of(&with, None, "secret").await, Ok(Role::Admin));
        for wrong in ["", "Secret", "secret2", "secre"] {
            assert_eq!(of(&with, Some(0), wrong).await, Err(false), "{wrong:?}");
        }
        assert_eq!(of(&rules(), None, "secret").await, Err(false));
    }

    #[tokio::test]
    async fn a_certificate_has_the_role_of_its_name_or_that_of_any() {
        let certificate = Certificate { names: vec!["ci.example".into()], fingerprint: "sha256:ab".into() };
        let shown = Credentials { certificate: Some(&certificate), ..Credentials::default() };
        let mut rules = rules();
        assert_eq!(role(&rules, shown).await, Err(true));
        rules.any_certificate = Some(Role::Observe);
        assert_eq!(role(&rules, shown).await, Ok(Role::Observe));
        rules.certificates.insert("sha256:ab".into(), Role::Operate);
        assert_eq!(role(&rules, shown).await, Ok(Role::Operate));
        rules.certificates.insert("ci.example".into(), Role::Admin);
        let known = Decision::Known { who: "certificate:ci.example".into(), role: Role::Admin };
        assert_eq!(rules.decide(shown).await, known);
    }
}
