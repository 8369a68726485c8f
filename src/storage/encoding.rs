//! How values of the model become bytes on disk, and bytes become values again.
//!
//! A *blob* is one byte with the version of its encoding, the value in [postcard]'s format, and eight
//! bytes of checksum over both. SQLite has no checksums of its own: without one, a flipped bit could
//! read as another fence or another deadline. Old versions stay readable for ever; a reader that meets
//! a version it does not know refuses it.
//!
//! Nothing here does IO. Decoding fails with a text that says what was found; the caller knows where.
//!
//! [postcard]: https://postcard.jamesmunns.com/wire-format

use std::sync::Arc;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::net::Marks;
use crate::model::{
    CallbackRecord, Change, Claim, ClaimId, ClaimState, Cooling, Revision, SemaphoreRecord,
    Sequence, Terms, Token, WallTime,
};

const VERSION_1: u8 = 1;
const VERSION_2: u8 = 2;
const VERSION_3: u8 = 3;
const CHECKSUM_BYTES: usize = 8;

/// A value that is kept as a blob.
pub trait Blob: Serialize + DeserializeOwned {
    /// What it is, for error texts.
    const WHAT: &'static str;

    /// Reads it as version 1 wrote it, and returns the bytes that are left over. What has not changed since needs
    /// nothing of its own: kinds of events that came later do not occur in old bytes.
    ///
    /// # Errors
    /// As [`postcard::take_from_bytes`].
    fn from_version_1(bytes: &[u8]) -> postcard::Result<(Self, &[u8])> {
        postcard::take_from_bytes(bytes)
    }

    /// The same for version 2.
    ///
    /// # Errors
    /// As [`postcard::take_from_bytes`].
    fn from_version_2(bytes: &[u8]) -> postcard::Result<(Self, &[u8])> {
        postcard::take_from_bytes(bytes)
    }
}

impl Blob for Vec<Change> {
    const WHAT: &'static str = "batch of changes";
}

impl Blob for Claim {
    const WHAT: &'static str = "claim";

    fn from_version_1(bytes: &[u8]) -> postcard::Result<(Claim, &[u8])> {
        let (old, rest) = postcard::take_from_bytes::<ClaimVersion1>(bytes)?;
        let ClaimVersion1 { id, sequence, terms, queued_at, revision, state } = old;
        let (callback, owner, job) = (None, None, None);
        Ok((Claim { id, sequence, terms, queued_at, revision, state, callback, owner, job }, rest))
    }

    fn from_version_2(bytes: &[u8]) -> postcard::Result<(Claim, &[u8])> {
        let (old, rest) = postcard::take_from_bytes::<ClaimVersion2>(bytes)?;
        let ClaimVersion2 { id, sequence, terms, queued_at, revision, state, callback } = old;
        let (owner, job) = (None, None);
        Ok((Claim { id, sequence, terms, queued_at, revision, state, callback, owner, job }, rest))
    }
}

/// A claim before it could have a callback.
#[derive(Deserialize)]
struct ClaimVersion1 {
    id: ClaimId,
    sequence: Sequence,
    terms: Arc<Terms>,
    queued_at: WallTime,
    revision: Revision,
    state: ClaimState,
}

/// A claim before it could belong to a token.
#[derive(Deserialize)]
struct ClaimVersion2 {
    id: ClaimId,
    sequence: Sequence,
    terms: Arc<Terms>,
    queued_at: WallTime,
    revision: Revision,
    state: ClaimState,
    callback: Option<Box<CallbackRecord>>,
}

impl Blob for SemaphoreRecord {
    const WHAT: &'static str = "semaphore";
}

impl Blob for Cooling {
    const WHAT: &'static str = "cooling entry";
}

impl Blob for Token {
    const WHAT: &'static str = "token";
}

impl Blob for Marks {
    const WHAT: &'static str = "set of marks";
}

/// Encodes a row of a live table, in the newest version.
///
/// # Errors
/// When the value cannot be encoded, which no type of the model does; a text that says why.
pub fn encode<T: Blob>(value: &T) -> Result<Vec<u8>, String> {
    encode_as(T::WHAT, value)
}

/// Encodes a batch of changes for the journal; [`decode`] reads it as a `Vec<Change>`.
///
/// # Errors
/// As [`encode`].
pub fn encode_changes(changes: &[Change]) -> Result<Vec<u8>, String> {
    encode_as(Vec::<Change>::WHAT, changes)
}

fn encode_as(what: &str, value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, String> {
    let mut blob = postcard::to_extend(value, vec![VERSION_3])
        .map_err(|error| format!("a {what} cannot be encoded: {error}"))?;
    let sum = checksum(&blob);
    blob.extend_from_slice(&sum);
    Ok(blob)
}

/// Decodes a blob of any version that was ever written.
///
/// # Errors
/// An unknown version, a checksum that does not match, a value that the model refuses, or bytes left
/// over; a text that says which.
pub fn decode<T: Blob>(blob: &[u8]) -> Result<T, String> {
    let what = T::WHAT;
    let (content, sum) = blob
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or_else(|| format!("a {what} of {} bytes is too short", blob.len()))?;
    if checksum(content) != *sum {
        return Err(format!("the checksum of a {what} does not match"));
    }
    let read = match content.split_first() {
        Some((&VERSION_1, value)) => T::from_version_1(value),
        Some((&VERSION_2, value)) => T::from_version_2(value),
        Some((&VERSION_3, value)) => postcard::take_from_bytes(value),
        Some((version, _)) => return Err(format!("a {what} has the unknown encoding {version}")),
        None => return Err(format!("a {what} is empty")),
    };
    match read {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("a {what} has {} bytes too many", rest.len())),
        Err(error) => Err(format!("a {what} cannot be decoded: {error}")),
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv): finds every change of a single byte for sure,
/// and of more with a chance of 2⁻⁶⁴ to miss it. It guards against accidents, not against people.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.to_le_bytes()
}

#[cfg(test)]
pub(super) mod frozen;
#[cfg(test)]
mod tests;
