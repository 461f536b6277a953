//! What a ServiceAccount token says of itself, before anybody is asked whether it is genuine: what
//! can't be an agent's costs the API server nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Longest token that is looked at, in bytes; those of ServiceAccounts have some 1200.
const LONGEST: usize = 16 * 1024;
/// Seconds that clocks may be apart.
const SKEW: i64 = 300;

/// Claims of a token (RFC 7519), genuine or not.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    aud: Audiences,
    exp: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Claims {
    /// Reads them. None of what is no token with claims.
    pub(super) fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
        if token.len() > LONGEST || parts.next().is_some() {
            return None;
        }
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        serde_json::from_slice(&claims).ok()
    }

    /// The one that it says it is of.
    pub(super) fn subject(&self) -> &str {
        &self.sub
    }

    /// It is meant for that audience.
    pub(super) fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            Audiences::One(one) => one == audience,
            Audiences::Several(all) => all.iter().any(|one| one == audience),
        }
    }

    /// It had run out by that time, in seconds since 1970.
    pub(super) fn has_expired(&self, now: i64) -> bool {
        let ended = self.exp.map(|exp| exp.saturating_add(SKEW));
        ended.is_some_and(|ended| ended < now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn claims_are_read_from_tokens_and_from_nothing_else() {
        for audience in [json!("a"), json!(["b", "a"])] {
            let claims = json!({ "sub": "s", "aud": audience, "exp": 1000, "iss": "x" });
            let claims = Claims::of(&token(&claims)).unwrap();
            assert_eq!(claims.subject(), "s");
            assert!(claims.is_for("a") && !claims.is_for("c"));
            assert!(!claims.has_expired(1000 + SKEW) && claims.has_expired(1001 + SKEW));
        }
        let long = json!({ "sub": "s".repeat(LONGEST) });
        for none in [
            "",
            "a.b",
            "a.b.c",
            "e30.e30.a.b",
            &token(&long),
            &token(&json!([])),
        ] {
            assert!(Claims::of(none).is_none(), "{none}");
        }
        let empty = Claims::of(&token(&json!({}))).unwrap();
        assert!(!empty.is_for("a") && !empty.has_expired(i64::MAX));
    }
}
