//! Tokens: who may do what, on which semaphores.
//!
//! A token is `sem_<id>_<secret>`. The service keeps the id and the SHA-256 of the secret: with 160 random bits or more
//! there is nothing to guess, so a slow hash as for passwords would protect nothing (NIST SP 800-63B, section 5.1.2.2).
//! A token is looked up by its id and its secret compared in constant time.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Claim, Declaration, Invalid, Priority, SemaphoreName, TokenId, TokenName, WallTime};

/// What every token starts with, so that scanners for leaked secrets find it.
pub const TOKEN_PREFIX: &str = "sem_";
/// Shortest secret: 32 of 36 characters, 165 bits if they are random.
const TOKEN_SECRET_BYTES_MIN: usize = 32;
/// Longest secret.
const TOKEN_SECRET_BYTES_MAX: usize = 128;
/// Most patterns of a token.
const TOKEN_PATTERNS_MAX: usize = 16;
/// Longest pattern, in bytes: that of a semaphore's name.
const PATTERN_BYTES_MAX: usize = super::name::SEMAPHORE_NAME_BYTES_MAX;

/// A token as its owner shows it: id and secret. Never stored, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText {
    id: TokenId,
    secret: String,
}

impl TokenText {
    /// Reads `sem_<id>_<secret>`.
    ///
    /// # Errors
    /// When `text` breaks the grammar; the error does not repeat it.
    pub fn parse(text: &str) -> Result<TokenText, Invalid> {
        let invalid = || {
            Invalid::new(
                "sem_<id>_<secret>, with an id of 4 to 32 and a secret of 32 to 128 of a-z 0-9",
            )
        };
        let rest = text.strip_prefix(TOKEN_PREFIX).ok_or_else(invalid)?;
        let (id, secret) = rest.split_once('_').ok_or_else(invalid)?;
        let id = TokenId::new(id).map_err(|_| invalid())?;
        let is_right = (TOKEN_SECRET_BYTES_MIN..=TOKEN_SECRET_BYTES_MAX).contains(&secret.len())
            && secret.bytes().all(is_token_byte);
        if is_right { Ok(TokenText { id, secret: secret.to_owned() }) } else { Err(invalid()) }
    }

    /// The token's id, which is no secret.
    #[must_use]
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// The hash of its secret.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.secret.as_bytes()).into())
    }

    /// The same secret under another id.
    #[must_use]
    pub fn with_id(&self, id: &TokenId) -> TokenText {
        TokenText { id: id.clone(), secret: self.secret.clone() }
    }

    /// The whole token, for whoever is to keep it.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{TOKEN_PREFIX}{}_{}", self.id, self.secret)
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenText({TOKEN_PREFIX}{}_…)", self.id)
    }
}

/// The id in what may be a whole token: `ab12` of `sem_ab12_…`.
#[must_use]
pub fn id_in_token(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    let fits = TokenId::new(id).is_ok();
    let secret_bytes = secret.bytes().take_while(|byte| is_token_byte(*byte)).count();
    (fits && secret_bytes >= TOKEN_SECRET_BYTES_MIN).then_some(id)
}

/// The text without the secrets of tokens in it: who pastes one into a wrong place shall not find it in a log.
#[must_use]
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    if !text.contains(TOKEN_PREFIX) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(TOKEN_PREFIX) {
        let (before, token) = rest.split_at(at);
        shown.push_str(before);
        let kept = match id_in_token(token) {
            Some(id) => TOKEN_PREFIX.len() + id.len() + 1,
            None => TOKEN_PREFIX.len(),
        };
        shown.push_str(&token[..kept]);
        rest = &token[kept..];
        if kept > TOKEN_PREFIX.len() {
            shown.push('…');
            rest = rest.trim_start_matches(|letter: char| {
                letter.is_ascii_lowercase() || letter.is_ascii_digit()
            });
        }
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Whether ids and secrets of tokens may contain it: `a-z 0-9`.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SecretHash(pub [u8; 32]);

impl PartialEq for SecretHash {
    /// In constant time.
    fn eq(&self, other: &SecretHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

/// One kind of thing that a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// See the state of semaphores and who holds and waits.
    Read,
    /// Acquire, renew and release claims of its own.
    Claim,
    /// Everything: semaphores, tokens, claims of others, priorities, the history of others.
    Admin,
}

impl Scope {
    /// All scopes, from little to much.
    pub const ALL: [Scope; 3] = [Scope::Read, Scope::Claim, Scope::Admin];

    /// The scope in the words of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Claim => "claim",
            Scope::Admin => "admin",
        }
    }

    /// The scope that [`Scope::as_str`] writes as `text`.
    ///
    /// # Errors
    /// When there is none.
    pub fn parse(text: &str) -> Result<Scope, Invalid> {
        let found = Scope::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| Invalid::new("\"read\", \"claim\" or \"admin\""))
    }
}

/// The scopes of a token, at least one. `admin` includes the others; `read` and `claim` do not include each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(u8);

impl Scopes {
    /// The scope `admin` alone.
    pub const ADMIN: Scopes = Scopes(1 << Scope::Admin as u8);

    /// These scopes.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Scopes, Invalid> {
        let bits = scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8);
        if bits == 0 { Err(Invalid::new("at least one scope")) } else { Ok(Scopes(bits)) }
    }

    /// Whether it may do what needs `scope`.
    #[must_use]
    pub fn allow(self, scope: Scope) -> bool {
        self.iter().any(|has| has == scope || has == Scope::Admin)
    }

    /// The scopes as they were given, from little to much.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & (1 << *scope as u8) != 0)
    }
}

impl TryFrom<Vec<Scope>> for Scopes {
    type Error = Invalid;

    fn try_from(scopes: Vec<Scope>) -> Result<Scopes, Invalid> {
        Scopes::new(scopes)
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Vec<Scope> {
        scopes.iter().collect()
    }
}

/// Which semaphores exist for a token: names, in which `*` stands for any number of characters. At most 16.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Patterns(Box<[String]>);

impl Patterns {
    /// All semaphores.
    #[must_use]
    pub fn all() -> Patterns {
        Patterns(["*".to_owned()].into())
    }

    /// These patterns.
    ///
    /// # Errors
    /// None, too many, or one that could not match any name.
    pub fn new(patterns: Vec<String>) -> Result<Patterns, Invalid> {
        let is_right = |pattern: &String| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-*".contains(&b);
            (1..=PATTERN_BYTES_MAX).contains(&pattern.len()) && pattern.bytes().all(allowed)
        };
        let is_bounded = (1..=TOKEN_PATTERNS_MAX).contains(&patterns.len());
        if is_bounded && patterns.iter().all(is_right) {
            return Ok(Patterns(patterns.into()));
        }
        Err(Invalid::new(
            "1 to 16 names of semaphores, each of up to 64 of A-Z a-z 0-9 _ - and * for any characters",
        ))
    }

    /// Whether a semaphore of this name exists for the token.
    #[must_use]
    pub fn cover(&self, name: &SemaphoreName) -> bool {
        self.0.iter().any(|pattern| matches(pattern.as_bytes(), name.as_str().as_bytes()))
    }

    /// Whether every semaphore does.
    #[must_use]
    pub fn cover_all(&self) -> bool {
        self.0.iter().any(|pattern| pattern.bytes().all(|byte| byte == b'*'))
    }

    /// The patterns as they were given.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl TryFrom<Vec<String>> for Patterns {
    type Error = Invalid;

    fn try_from(patterns: Vec<String>) -> Result<Patterns, Invalid> {
        Patterns::new(patterns)
    }
}

impl From<Patterns> for Vec<String> {
    fn from(patterns: Patterns) -> Vec<String> {
        patterns.0.into()
    }
}

/// Whether `pattern` matches all of `name`. Greedy with one point to come back to, so linear in practice and at worst the
/// product of two lengths of at most 64 (Cox, "Glob matching can be simple and fast too", 2017).
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            back = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((star, taken)) = back {
            back = Some((star, taken + 1));
            (p, n) = (star + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// How much a token may have at the same time. What is `None` has the service's own bounds alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBounds {
    /// Live claims.
    pub claims_max: Option<u32>,
    /// Requests that wait at the same time; one more is answered at once, and its claim keeps its place.
    pub waiting_requests_max: Option<u32>,
    /// Highest priority of its claims; without one 0, and no ceiling for `admin`.
    pub priority_max: Option<Priority>,
}

/// Who declares a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenOrigin {
    /// It was made over the API, or by the daemon itself.
    Api,
    /// The configuration file; the declaration that was applied last.
    File(Declaration),
}

impl TokenOrigin {
    /// The origin in the words of the API: `api` or `file`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenOrigin::Api => "api",
            TokenOrigin::File(_) => "file",
        }
    }
}

/// A token as the service keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public part.
    pub id: TokenId,
    /// The SHA-256 of its secret part.
    pub hash: SecretHash,
    /// What people call it.
    pub name: TokenName,
    /// What it may do.
    pub scopes: Scopes,
    /// On which semaphores.
    pub patterns: Patterns,
    /// How much.
    pub bounds: TokenBounds,
    /// From when on it is refused.
    pub expires_at: Option<WallTime>,
    /// Who declares it.
    pub origin: TokenOrigin,
    /// When it was made.
    pub created_at: WallTime,
    /// When it was used last, to a minute.
    pub last_used_at: Option<WallTime>,
}

impl Token {
    /// Whether it may do what needs `scope`.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.allow(scope)
    }

    /// Whether it was to be refused from a moment up to `now` on.
    #[must_use]
    pub fn has_expired(&self, now: WallTime) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether all semaphores of a claim exist for it.
    #[must_use]
    pub fn covers(&self, claim: &Claim) -> bool {
        claim.terms.permits.names().all(|name| self.patterns.cover(name))
    }

    /// Whether it may see and end a claim: its own, for `admin` any of its semaphores, and what was made without a
    /// token.
    #[must_use]
    pub fn may_use(&self, claim: &Claim) -> bool {
        let is_own = claim.owner.as_ref() == Some(&self.id);
        let is_others = claim.owner.is_some();
        is_own || (self.covers(claim) && (!is_others || self.allows(Scope::Admin)))
    }

    /// The highest priority that its claims may have.
    #[must_use]
    pub fn priority_max(&self) -> Priority {
        let ceiling = if self.allows(Scope::Admin) { Priority::MAX } else { Priority::default() };
        self.bounds.priority_max.unwrap_or(ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_and_shown_without_its_secret() {
        let secret = "0123456789abcdefghijklmnopqrstuvwxyz0123";
        let text = format!("sem_ci4farm_{secret}");
        let token = TokenText::parse(&text).unwrap();
        assert_eq!(token.id().as_str(), "ci4farm");
        assert_eq!(token.reveal(), text);
        assert!(!format!("{token:?}").contains(secret));
        // printf %s 0123456789abcdefghijklmnopqrstuvwxyz0123 | sha256sum
        let hash: String = token.hash().0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "f541cef25a62f59a45a6c5a01e988177ee9603c2e00d66b8c3bce288db5d65c3");
    }

    #[test]
    fn what_is_no_token() {
        let secret = "a".repeat(32);
        for bad in [
            String::new(),
            "sem_".into(),
            format!("sem_{secret}"),
            format!("Sem_abcd_{secret}"),
            format!("sem_abc_{secret}"),
            format!("sem_abcd_{}", &secret[1..]),
            format!("sem_abcd_{}", "a".repeat(129)),
            format!("sem_ABCD_{secret}"),
            format!("sem_abcd_{secret}_"),
            format!("sem_abcd_{secret} "),
            format!("sem_abcd_{}ü", &secret[1..]),
        ] {
            let error = TokenText::parse(&bad).unwrap_err();
            assert!(!error.to_string().contains(&secret), "{bad}");
        }
    }

    #[test]
    fn secrets_are_taken_out_of_texts_and_nothing_else_is() {
        let secret = "0123456789abcdefghijklmnopqrstuvwxyz";
        let text = format!("it is \"sem_ab12_{secret}\", not sem_cd34_{secret}: sem_x");
        assert_eq!(without_secrets(&text), "it is \"sem_ab12_…\", not sem_cd34_…: sem_x");
        for text in ["no token", "sem_ab12_short", "sem_sem_", "a sem_ é", "sem_AB12_x"] {
            assert_eq!(without_secrets(text), text);
        }
        assert_eq!(id_in_token(&format!("sem_ab12_{secret}")), Some("ab12"));
        assert_eq!(id_in_token("ab12"), None);
    }

    #[test]
    fn admin_includes_the_others() {
        let of = |scopes: &[Scope]| Scopes::new(scopes.iter().copied()).unwrap();
        assert!(Scope::ALL.into_iter().all(|scope| Scopes::ADMIN.allow(scope)));
        let claim = of(&[Scope::Claim]);
        assert!(claim.allow(Scope::Claim) && !claim.allow(Scope::Read));
        let both = of(&[Scope::Claim, Scope::Read]);
        assert!(both.allow(Scope::Read) && !both.allow(Scope::Admin));
        assert_eq!(both.iter().collect::<Vec<_>>(), [Scope::Read, Scope::Claim]);
        assert!(Scopes::new([]).is_err());
    }

    #[test]
    fn patterns_match_whole_names() {
        let cases = [
            ("questa*", "questa-sim", true),
            ("questa*", "questa", true),
            ("questa*", "Questa", false),
            ("questa*", "my-questa", false),
            ("*", "a", true),
            ("*sim", "questa-sim", true),
            ("*sim", "questa-sim2", false),
            ("q*-*-x", "q-1-2-x", true),
            ("q*-*-x", "q-x", false),
            ("a**b", "ab", true),
            ("vcs", "vcs", true),
            ("vcs", "vcs2", false),
        ];
        for (pattern, name, covers) in cases {
            let patterns = Patterns::new(vec![pattern.to_owned()]).unwrap();
            assert_eq!(
                patterns.cover(&SemaphoreName::new(name).unwrap()),
                covers,
                "{pattern} {name}"
            );
        }
        let slow = "*a".repeat(32);
        let patterns = Patterns::new(vec![slow]).unwrap();
        assert!(!patterns.cover(&SemaphoreName::new(&format!("{}b", "a".repeat(63))).unwrap()));
        assert!(
            Patterns::all().cover_all() && !Patterns::new(vec!["a*".into()]).unwrap().cover_all()
        );
        for bad in [vec![], vec![String::new()], vec!["a b".into()], vec!["a".repeat(65)]] {
            assert!(Patterns::new(bad).is_err());
        }
    }
}
