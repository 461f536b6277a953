//! Why a token is refused.

/// Why a token is refused. The texts are for its client, too: they have nothing of the token's, and
/// nothing of the keys.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum TokenRefusal {
    /// More than one, in whatever places.
    #[error("the request has several tokens")]
    Several,
    /// Longer than any that is read.
    #[error("the token is too large")]
    TooLarge,
    /// Not three parts of base64url with JSON in the first two, or JSON that two readers may take
    /// for different things.
    #[error("the token is malformed")]
    Malformed,
    /// It asks for something that nobody here understands (RFC 7515 section 4.1.11).
    #[error("the token has critical header parameters")]
    Critical,
    /// An algorithm that isn't allowed, `none` among them.
    #[error("the token's algorithm is not allowed")]
    Algorithm,
    /// No issuer that is known where the token was.
    #[error("the token's issuer is not known")]
    Issuer,
    /// Its issuer's keys haven't been fetched yet: nothing is wrong with the token.
    #[error("the keys of the token's issuer are not known yet")]
    KeysPending,
    /// No key of its issuer's is the one that it names, or fits.
    #[error("no key of the token's issuer fits it")]
    NoKey,
    /// The signature is another's.
    #[error("the token's signature is invalid")]
    Signature,
    /// It says not for how long.
    #[error("the token does not say when it expires")]
    NoExpiry,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time hasn't come, or it was issued in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It is for somebody else.
    #[error("the token is for another audience")]
    Audience,
}

impl TokenRefusal {
    /// Whether the same token may be accepted in a moment: the fault is not its client's.
    pub fn is_temporary(self) -> bool {
        self == Self::KeysPending
    }
}
