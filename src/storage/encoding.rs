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
    Change, Claim, ClaimId, ClaimState, Cooling, Revision, SemaphoreRecord, Sequence, Terms,
    WallTime,
};

const VERSION_1: u8 = 1;
const VERSION_2: u8 = 2;
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
}

impl Blob for Vec<Change> {
    const WHAT: &'static str = "batch of changes";
}

impl Blob for Claim {
    const WHAT: &'static str = "claim";

    fn from_version_1(bytes: &[u8]) -> postcard::Result<(Claim, &[u8])> {
        let (old, rest) = postcard::take_from_bytes::<ClaimVersion1>(bytes)?;
        let ClaimVersion1 { id, sequence, terms, queued_at, revision, state } = old;
        Ok((Claim { id, sequence, terms, queued_at, revision, state, callback: None }, rest))
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

impl Blob for SemaphoreRecord {
    const WHAT: &'static str = "semaphore";
}

impl Blob for Cooling {
    const WHAT: &'static str = "cooling entry";
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
    let mut blob = postcard::to_extend(value, vec![VERSION_2])
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
        Some((&VERSION_2, value)) => postcard::take_from_bytes(value),
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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        model::{
            ClaimEvent, Delivery, DeliveryFailure, DeliveryResult, EndReason, Event, Fence, Holder,
            Labels, Note,
        },
        storage::testing::{self, name},
    };

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// One change with every event, and every event of a claim, in the order of their declaration.
    fn every_event_of_version_1() -> Vec<Change> {
        let sequence = Sequence(300);
        let cooldown = Duration::from_millis(60_500);
        let claim = |event| Event::Claim { sequence, event };
        let note = Note::new("tidying up").unwrap();
        let mut terms = testing::terms(&[("a", 1), ("b", 2)]);
        terms.holder = Some(Holder::new("job 412").unwrap());
        terms.labels = Labels::new(vec![("branch".into(), "main".into())]).unwrap();
        terms.queue_ttl = Some(Duration::from_secs(120));
        let events = vec![
            testing::set("a", 5),
            Event::SemaphoreRemoved { name: name("a") },
            Event::ClaimQueued { id: testing::id("7f3c"), sequence, terms: terms.into() },
            claim(ClaimEvent::Offered { fences: [Fence(7), Fence(8)].into() }),
            claim(ClaimEvent::Granted {
                fences: [Fence(9)].into(),
                hold_until: Some(WallTime(1_795_492_253_120)),
            }),
            claim(ClaimEvent::Confirmed { hold_until: None }),
            claim(ClaimEvent::Renewed { ttl: Duration::from_secs(300) }),
            claim(ClaimEvent::Ended {
                reason: EndReason::Revoked,
                note: Some(note),
                cooling: [(name("a"), cooldown)].into(),
            }),
            Event::CoolingEnded { semaphore: name("a"), sequence, permits: 1 },
        ];
        vec![Change { revision: Revision(90_121), at: WallTime(1_795_492_253_120), events }]
    }

    /// The same with the events that came with version 2.
    fn every_event() -> Vec<Change> {
        let mut changes = every_event_of_version_1();
        let events = &mut changes[0].events;
        let claim = |event| Event::Claim { sequence: Sequence(300), event };
        let started_at = WallTime(1_795_492_253_120);
        let duration = Duration::from_millis(34);
        let tried = |result| ClaimEvent::CallbackTried {
            delivery: Delivery { started_at, duration, result },
        };
        let (target, url) = testing::callbacks();
        events.push(claim(ClaimEvent::CallbackSet { callback: target.into() }));
        events.push(claim(ClaimEvent::CallbackSet { callback: url.into() }));
        events.push(claim(ClaimEvent::CallbackDue));
        events.push(claim(tried(DeliveryResult::Answered { status: 503 })));
        events.push(claim(tried(DeliveryResult::Unfinished)));
        for failure in DeliveryFailure::ALL {
            events.push(claim(tried(DeliveryResult::Failed(failure))));
        }
        // A new variant does not compile here before it is in the lists above.
        for event in events.iter() {
            match event {
                Event::SemaphoreSet { .. }
                | Event::SemaphoreRemoved { .. }
                | Event::ClaimQueued { .. }
                | Event::CoolingEnded { .. } => {}
                Event::Claim { event, .. } => match event {
                    ClaimEvent::Offered { .. }
                    | ClaimEvent::Granted { .. }
                    | ClaimEvent::Confirmed { .. }
                    | ClaimEvent::Renewed { .. }
                    | ClaimEvent::Ended { .. }
                    | ClaimEvent::CallbackSet { .. }
                    | ClaimEvent::CallbackDue
                    | ClaimEvent::CallbackTried { .. } => {}
                },
            }
        }
        changes
    }

    const CHANGES_V1: &str = "010189c00580b7ecbac168090001610500ac020080a30500007800000000000000010161020437663363\
         ac020201610101620201076a6f622034313201066272616e6368046d61696effac02000178000180cab5\
         ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a03ac02\
         0002070803ac020101090180b7ecbac16803ac02020003ac0203ac020003ac020407010a74696479696e\
         672075700101613c80cab5ee01040161ac0201a438dbbf74b0e7d7";

    const CHANGES_V2: &str = "020189c00580b7ecbac168150001610500ac020080a30500007800000000000000010161020437663363\
         ac020201610101620201076a6f622034313201066272616e6368046d61696effac02000178000180cab5\
         ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a03ac02\
         0002070803ac020101090180b7ecbac16803ac02020003ac0203ac020003ac020407010a74696479696e\
         672075700101613c80cab5ee01040161ac020103ac0205000b6769746c61622d66706761010770726f6a\
         65637402343203ac0205011d68747470733a2f2f686f6f6b732e6578616d706c652f63692f3f613d6203\
         ac020603ac020780b7ecbac1680080999b1000f70303ac020780b7ecbac1680080999b100203ac020780\
         b7ecbac1680080999b10010003ac020780b7ecbac1680080999b10010103ac020780b7ecbac168008099\
         9b10010203ac020780b7ecbac1680080999b10010303ac020780b7ecbac1680080999b10010403ac0207\
         80b7ecbac1680080999b10010503ac020780b7ecbac1680080999b100106d2f04b21fccb9e82";

    /// As of version 1, and the claims once more with callbacks.
    const ROWS_V2: [&str; 11] = [
        "0201610500ac020080a30500007800000000000000ec440977220158b5e9f467",
        "02016129023c00f4720b723f05cc42",
        "0289c005ac0209a476995949204abd",
        "0204376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0a00003ec0c7b6e44b33f6",
        "0204376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0b01a01f01ec44003c00000e3ca792ea",
        "0204376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0c02a01f01ec44ac020001d08c01004add73bc1f64\
         d5b6",
        "0204376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0d0302a01f01a01f0101ec440000e9c21c6f2ddd96\
         c5",
        "0204376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0a0001000b6769746c61622d66706761010770726f\
         6a65637402343202f02e0180e59a770105f02e0180e59a7700cc0142524671bc448ce3",
        "0204376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0b01a01f01ec4401000b6769746c61622d66706761\
         010770726f6a65637402343202f02e0180e59a770105f02e0180e59a7700cc01f098e9e1b80c9f84",
        "0204376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0c02a01f01ec44ac020001d08c0101000b6769746c\
         61622d66706761010770726f6a65637402343202f02e0180e59a770105f02e0180e59a7700cc010eb59d\
         01bd3afc55",
        "0204376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0d0302a01f01a01f0101ec440001000b6769746c61\
         622d66706761010770726f6a65637402343202f02e0180e59a770105f02e0180e59a7700cc010f6c5aef\
         bace20d9",
    ];

    /// A semaphore, a cooling entry, the marks, and a claim in each of its states.
    const ROWS_V1: [&str; 7] = [
        "0101610500ac020080a30500007800000000000000ec4409a05c2bd4b9ab81da",
        "01016129023c009d5b5022e4781472",
        "0189c005ac020989c72e5c0f629574",
        "0104376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0a002bdbfef9be09aaea",
        "0104376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0b01a01f01ec44db2ec87838def534",
        "0104376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0c02a01f01ec44ac020001d08c01affe11d83ef0ee\
         dd",
        "0104376633632a010161020000ffac0200000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a\
         5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5ad00f0d0302a01f01a01f0101ec440010fba69406c78678",
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    /// What version 1 wrote reads as it always did. Never change the texts.
    #[test]
    fn version_1_is_readable() {
        assert_eq!(decode(&bytes(CHANGES_V1)), Ok(every_event_of_version_1()));
        let (semaphore, claims, cooling) = testing::live_rows();
        assert_eq!(decode(&bytes(ROWS_V1[0])), Ok(semaphore));
        assert_eq!(decode(&bytes(ROWS_V1[1])), Ok(cooling));
        assert_eq!(decode(&bytes(ROWS_V1[2])), Ok(marks()));
        for (claim, row) in claims.into_iter().zip(&ROWS_V1[3..]) {
            assert_eq!(decode::<Claim>(&bytes(row)), Ok(claim));
        }
    }

    fn marks() -> Marks {
        Marks { revision: Revision(90_121), sequence: Sequence(300), fence_floor: Fence(9) }
    }

    /// The frozen bytes of version 2. When this test fails, a type of the model has changed in a way
    /// that databases in the field do not know: add a new version to [`decode`] and a new frozen text
    /// beside this one; never change the old one.
    #[test]
    fn version_2_is_frozen() {
        let changes = every_event();
        let blob = encode_changes(&changes).unwrap();
        assert_eq!(hex(&blob), CHANGES_V2);
        assert_eq!(decode::<Vec<Change>>(&blob), Ok(changes));

        let (semaphore, mut claims, cooling) = testing::live_rows();
        claims.extend(claims.clone().into_iter().map(testing::with_callback));
        let blobs = [encode(&semaphore), encode(&cooling), encode(&marks())];
        let mut rows: Vec<_> = blobs.into_iter().map(|blob| hex(&blob.unwrap())).collect();
        for claim in &claims {
            match claim.state {
                ClaimState::Waiting
                | ClaimState::Offered { .. }
                | ClaimState::Held { .. }
                | ClaimState::Ended { .. } => rows.push(hex(&encode(claim).unwrap())),
            }
            assert_eq!(decode::<Claim>(&encode(claim).unwrap()).as_ref(), Ok(claim));
        }
        assert_eq!(decode(&encode(&semaphore).unwrap()), Ok(semaphore));
        assert_eq!(decode(&encode(&marks()).unwrap()), Ok(marks()));
        assert_eq!(decode(&encode(&cooling).unwrap()), Ok(cooling));
        assert_eq!(rows, ROWS_V2);
    }

    #[test]
    fn every_damage_is_refused() {
        let blob = encode_changes(&every_event()).unwrap();
        for at in 0..blob.len() {
            let mut wrong = blob.clone();
            wrong[at] ^= 0x10;
            assert!(decode::<Vec<Change>>(&wrong).is_err(), "byte {at}");
            assert!(decode::<Vec<Change>>(&blob[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn unknown_versions_and_bytes_left_over_are_refused() {
        let sealed = |content: &[u8]| [content, &checksum(content)].concat();
        let check = |content: &[u8], expected: &str| {
            let text = decode::<Vec<Change>>(&sealed(content)).unwrap_err();
            assert!(text.contains(expected), "{text}");
        };
        assert_eq!(decode::<Vec<Change>>(&sealed(&[1, 0])), Ok(vec![]));
        check(&[1, 0, 0], "1 bytes too many");
        assert_eq!(decode::<Vec<Change>>(&sealed(&[2, 0])), Ok(vec![]));
        check(&[3, 0], "unknown encoding 3");
        check(&[1], "cannot be decoded");
        check(&[], "empty");
    }
}
