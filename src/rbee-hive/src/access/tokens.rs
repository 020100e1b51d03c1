//! Bearer tokens: a file of names, roles and hashes, and new tokens for it.
//!
//! The file never holds a token. Its hashes are plain SHA-256: slow hashes protect what people make up, and a token of 256 random bits can't be
//! guessed however fast the guesses are; a slow one would be work that strangers could order. Must never know who presents a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Role;

/// How a token begins, so that it is recognized where it should not be.
const PREFIX: &str = "rbh_";
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Most tokens in a file: each is compared with what a caller presents.
const MAX_TOKENS: usize = 256;
/// First lines of a file that this program writes. A file without a token is one that lets nobody in.
const HEAD: &str = "# Bearer tokens of rbee-hive: names, roles and SHA-256 hashes. Change it with `rbee-hive token`.\n";

/// SHA-256 of a token.
pub(crate) type TokenHash = [u8; 32];

/// The hash of what a caller presents.
pub(crate) fn token_hash(token: &str) -> TokenHash {
    Sha256::digest(token).into()
}

/// Why a file of tokens can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// There is nothing in it.
    #[error("the token file is empty: make a token with `rbee-hive token add`")]
    Empty,
    /// It is neither UTF-8 nor TOML of that form; the source names line and key.
    #[error("parse the tokens")]
    Parse(#[source] Box<toml::de::Error>),
    /// Not a text.
    #[error("parse the tokens: they are not UTF-8")]
    NotText,
    /// One of them can't be.
    #[error("token {name:?}: {why}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// More than [`MAX_TOKENS`].
    #[error("{0} tokens, at most {MAX_TOKENS} are taken")]
    TooMany(usize),
    /// The kernel gives no random bytes.
    #[error("get random bytes from the kernel: {0}")]
    Random(getrandom::Error),
}

/// One token of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenEntry {
    /// Whose it is, for people and the audit.
    pub(crate) name: String,
    /// What it lets do.
    pub(crate) role: Role,
    /// 64 hexadecimal digits.
    pub(crate) sha256: String,
    /// From when on it is worth nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Timestamp>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<TokenEntry>,
}

/// The tokens of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenSet {
    entries: Vec<(TokenEntry, TokenHash)>,
    /// Whether it is the older form: the token itself.
    pub(crate) plain: bool,
}

/// A token that was made just now.
pub(crate) struct NewToken {
    /// Shown once.
    pub(crate) token: String,
    /// Kept.
    pub(crate) entry: TokenEntry,
}

/// What a presented token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// This one.
    Valid(&'a TokenEntry),
    /// One whose time is over.
    Expired(&'a TokenEntry),
    /// None of them.
    Unknown,
}

impl TokenSet {
    /// Reads a file. One word alone is the older form, the token itself, which may do everything.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, TokenError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TokenError::NotText)?;
        let word = text.trim();
        if word.is_empty() {
            return Err(TokenError::Empty);
        }
        if !word.contains(char::is_whitespace) && !word.starts_with(['[', '#']) {
            return Ok(Self::of_one(word));
        }
        let file: File = toml::from_str(text).map_err(|e| TokenError::Parse(Box::new(e)))?;
        if file.token.len() > MAX_TOKENS {
            return Err(TokenError::TooMany(file.token.len()));
        }
        let mut set = Self::default();
        file.token.into_iter().try_for_each(|entry| set.add(entry))?;
        Ok(set)
    }

    /// One token in clear, which may do everything.
    pub(crate) fn of_one(token: &str) -> Self {
        let hash = token_hash(token);
        let entry = TokenEntry { name: "token-file".into(), role: Role::Admin, sha256: hex(&hash), expires: None };
        Self { entries: vec![(entry, hash)], plain: true }
    }

    /// Adds one whose name and hash are new.
    pub(crate) fn add(&mut self, entry: TokenEntry) -> Result<(), TokenError> {
        let wrong = |why| TokenError::Entry { name: entry.name.chars().take(80).collect(), why };
        if !is_name(&entry.name) {
            return Err(wrong("a name has 1 to 63 letters, digits or any of . _ @ - and begins with a letter or digit"));
        }
        let Some(hash) = unhex(&entry.sha256) else { return Err(wrong("sha256 is not 64 hexadecimal digits")) };
        if self.entries.iter().any(|(other, _)| other.name == entry.name) {
            return Err(wrong("there is one of that name already"));
        }
        if self.entries.iter().any(|(_, other)| *other == hash) {
            return Err(wrong("its hash is there already under another name"));
        }
        if self.entries.len() >= MAX_TOKENS {
            return Err(TokenError::TooMany(MAX_TOKENS + 1));
        }
        self.entries.push((entry, hash));
        Ok(())
    }

    /// Takes one out; whether it was there.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(entry, _)| entry.name != name);
        self.entries.len() < before
    }

    /// All of them.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &TokenEntry> {
        self.entries.iter().map(|(entry, _)| entry)
    }

    /// Whose token it is. Takes the same time wherever it is found, and whether it is.
    pub(crate) fn find(&self, presented: &TokenHash, now: Timestamp) -> Found<'_> {
        let mut found = None;
        for (entry, hash) in &self.entries {
            if bool::from(hash.ct_eq(presented)) {
                found = Some(entry);
            }
        }
        match found {
            None => Found::Unknown,
            Some(entry) if entry.expires.is_some_and(|end| end <= now) => Found::Expired(entry),
            Some(entry) => Found::Valid(entry),
        }
    }

    /// As a file has it.
    pub(crate) fn to_text(&self) -> Result<String, toml::ser::Error> {
        let file = File { token: self.entries().cloned().collect() };
        // Without one it would say `token = []`, which a table added by hand could not follow.
        let tables = if file.token.is_empty() { String::new() } else { toml::to_string(&file)? };
        Ok(format!("{HEAD}\n{tables}"))
    }
}

impl NewToken {
    /// Makes one from the kernel's random bytes.
    pub(crate) fn make(name: &str, role: Role, expires: Option<Timestamp>) -> Result<Self, TokenError> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        let entry = TokenEntry { name: name.into(), role, sha256: hex(&token_hash(&token)), expires };
        Ok(Self { token, entry })
    }
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    name.len() <= 63 && name.starts_with(plain) && name.chars().all(|c| plain(c) || "._@-".contains(c))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<TokenHash> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Option<Vec<u8>> = (0..32).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, role: Role) -> NewToken {
        NewToken::make(name, role, None).unwrap()
    }

    #[test]
    fn a_new_token_is_known_by_the_file_that_never_holds_it() {
        let new = made("ci", Role::Operate);
        let mut set = TokenSet::default();
        set.add(new.entry.clone()).unwrap();
        let text = set.to_text().unwrap();
        assert!(new.token.starts_with("rbh_") && new.token.len() == 4 + 43, "{}", new.token.len());
        assert!(!text.contains(&new.token) && !text.contains(&new.token[4..]));
        let read = TokenSet::parse(text.as_bytes()).unwrap();
        assert_eq!(read.find(&token_hash(&new.token), Timestamp::now()), Found::Valid(&new.entry));
        for wrong in ["", "rbh_", &new.token[..46], &format!("{}x", new.token), &new.entry.sha256] {
            assert_eq!(read.find(&token_hash(wrong), Timestamp::now()), Found::Unknown, "{wrong}");
        }
        assert_ne!(made("ci", Role::Operate).token, new.token);
    }

    #[test]
    fn a_token_is_worth_nothing_from_its_end_on() {
        let end: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let new = NewToken::make("a", Role::Admin, Some(end)).unwrap();
        let mut set = TokenSet::default();
        set.add(new.entry.clone()).unwrap();
        let read = TokenSet::parse(set.to_text().unwrap().as_bytes()).unwrap();
        let hash = token_hash(&new.token);
        assert_eq!(read.find(&hash, "2029-12-31T23:59:59Z".parse().unwrap()), Found::Valid(&new.entry));
        assert_eq!(read.find(&hash, end), Found::Expired(&new.entry));
    }

    #[test]
    fn one_word_alone_is_the_older_form_and_an_empty_file_is_none() {
        let old = TokenSet::parse(b"secret=\n").unwrap();
        assert!(old.plain && matches!(old.find(&token_hash("secret="), Timestamp::now()), Found::Valid(t) if t.role == Role::Admin));
        assert!(matches!(TokenSet::parse(b" \n"), Err(TokenError::Empty)));
        let none = TokenSet::parse(TokenSet::default().to_text().unwrap().as_bytes()).unwrap();
        assert!(none.entries().next().is_none() && !none.plain, "the last token was taken out: nobody may come in");
    }

    #[test]
    fn what_is_no_token_file_is_refused_and_says_why() {
        let hash = "00".repeat(32);
        let entry = |name: &str, role: &str, hash: &str| format!("[[token]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{hash}\"\n");
        let good = entry("a", "observe", &hash);
        assert!(TokenSet::parse(good.as_bytes()).is_ok());
        let (root, two, short) = (entry("b", "root", &hash), format!("{good}{good}"), entry("b", "admin", "00"));
        let other = "11".repeat(32);
        for (text, why) in [
            (root.as_str(), "parse"),
            (&two, "already"),
            (&short, "sha256"),
            (&format!("{good}token = \"x\"\n"), "parse"),
            (&entry("a b", "admin", &other), "a name has"),
            (&format!("{good}{}", entry("b", "admin", &hash)), "another name"),
            ("two words", "parse"),
        ] {
            let error = TokenSet::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let many: String = (0..=MAX_TOKENS).map(|n| entry(&format!("t{n}"), "observe", &format!("{n:064x}"))).collect();
        assert!(matches!(TokenSet::parse(many.as_bytes()), Err(TokenError::TooMany(_))));
    }
}
