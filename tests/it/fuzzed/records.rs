//! What stands in a store, read as a record: whoever can write there makes nobody panic, takes no more memory than
//! answers may have, and is believed only where records need not be sealed.
//!
//! The first byte chooses what is read, and whether the checksum is put right first, without which no change would get
//! further than that. The rest is the value.

use bytes::Bytes;
use onceway::protocol::outline::Outline;
use onceway::protocol::record::{Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::codec::{self, Codec, Compression, HEAD_LEN, Sealing, Stored};

/// Where the checksum of a record stands, in every format so far.
const CHECKSUM: std::ops::Range<usize> = 86..90;

/// By how much a value may grow when it is read: more than any answer does that is worth keeping.
const GROWTH_MAX: usize = 1024 * 1024;

const KEY: StorageKey = StorageKey::from_bytes([9; 32]);
const SECRET: [u8; 32] = [3; 32];

pub(crate) fn bear(bytes: &[u8]) {
    let Some((choice, value)) = bytes.split_first() else { return };
    let mut value = value.to_vec();
    if choice & 1 == 0 {
        put_checksum_right(&mut value);
    }
    let value = Bytes::from(value);
    if choice & 2 == 0 {
        read_where_nothing_is_sealed(
            &value,
            if choice & 4 == 0 { Compression::Off } else { Compression::Zstd },
        );
    } else {
        read_where_all_is_sealed(&value);
    }
}

fn read_where_nothing_is_sealed(value: &Bytes, compression: Compression) {
    let codec = Codec::new(Sealing::Off, compression);
    let outlined = outlined(&codec, value);
    let Seen::Record(record) = codec.decode_whole(&KEY, value.clone()) else { return };
    assert!(size(&record) <= value.len() + GROWTH_MAX, "{} bytes became {}", value.len(), size(&record));
    assert_eq!(outlined.as_ref(), Some(&Outline::from(&*record)), "what operators see of it");
    assert_eq!(codec::version_of(value), Some(record.version));
    // Written again and read again it is what it was, sealed or not.
    for codec in [codec, sealing()] {
        let codec::Encoded { head, body } = codec.encode(&KEY, &record);
        let again = codec.decode_whole(&KEY, [head, body].concat().into());
        assert_eq!(again, Seen::Record(record.clone()));
    }
}

/// Nobody without the key makes a record that is believed.
fn read_where_all_is_sealed(value: &Bytes) {
    let codec = sealing();
    assert_eq!(codec.decode_whole(&KEY, value.clone()), Seen::Unreadable);
    assert_eq!(outlined(&codec, value), None);
}

fn sealing() -> Codec {
    let keys: [&[u8; 32]; 1] = [&SECRET];
    Codec::new(Sealing::On { keys: &keys, accept_unsealed: false }, Compression::Zstd)
}

fn outlined(codec: &Codec, value: &Bytes) -> Option<Outline> {
    let (head, body_len) = match codec::split(value.clone()) {
        Stored::Whole(codec::Encoded { head, body }) => (head, u64::try_from(body.len()).unwrap()),
        Stored::BodyApart { head, body_len } => (head, body_len),
        Stored::Unreadable => return None,
    };
    codec.outline(&KEY, &head, body_len)
}

fn put_checksum_right(value: &mut [u8]) {
    if value.len() < HEAD_LEN {
        return;
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&value[..CHECKSUM.start]);
    hasher.update(&value[CHECKSUM.end..]);
    let checksum = hasher.finalize().to_be_bytes();
    value[CHECKSUM].copy_from_slice(&checksum);
}

/// Bytes that a record holds.
fn size(record: &Record) -> usize {
    use onceway::protocol::record::Phase;
    match &record.phase {
        Phase::Done { saved, .. } => saved.body.len(),
        Phase::DoneWithoutBody { .. } | Phase::InFlight | Phase::Unknown { .. } => 0,
    }
}

#[test]
fn what_was_tried_as_a_stored_record_is_read_or_refused() {
    super::try_each("records", bear);
}
