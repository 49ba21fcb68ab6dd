//! Sealed and compressed records: what comes back, and that nothing else does.

use super::*;

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn sealing(keys: &[&[u8; 32]]) -> Codec {
    Codec::new(Sealing::On { keys, accept_unsealed: false }, Compression::Off)
}

fn accepting(keys: &[&[u8; 32]]) -> Codec {
    Codec::new(Sealing::On { keys, accept_unsealed: true }, Compression::Off)
}

fn opening(keys: &[&[u8; 32]]) -> Codec {
    Codec::new(Sealing::OpenOnly(keys), Compression::Off)
}

fn compressing() -> Codec {
    Codec::new(Sealing::Off, Compression::Zstd)
}

fn sealing_and_compressing() -> Codec {
    Codec::new(Sealing::On { keys: &[&OLD], accept_unsealed: false }, Compression::Zstd)
}

fn sealed_whole(record: &Record) -> Bytes {
    joined(sealing(&[&OLD]).encode(&KEY, record))
}

fn every_phase() -> [Record; 5] {
    let reason = UnknownReason::ConnectionLost;
    [claim(), done(), long(), done_without_body(), with(Phase::Unknown { reason })]
}

/// A body that can be made smaller.
fn long() -> Record {
    answered(b"{\"id\":\"pay_17\",\"status\":\"captured\"}".iter().copied().cycle().take(5000).collect())
}

fn answered(body: Bytes) -> Record {
    let mut record = done();
    let Phase::Done { saved, .. } = &mut record.phase else { panic!("another phase") };
    saved.body = body;
    record
}

fn seen(record: &Record) -> Seen {
    Seen::Record(Box::new(record.clone()))
}

/// Why a codec cannot read a record; fails if it can.
fn cause(codec: &Codec, value: Bytes) -> Cause {
    cause_at(codec, &KEY, value)
}

fn cause_at(codec: &Codec, key: &StorageKey, value: Bytes) -> Cause {
    let Stored::Whole(encoded) = split(value) else { return Cause::Damaged };
    codec.read(key, encoded).expect_err("it should not be read")
}

fn id_of(secret: &[u8; 32]) -> KeyId {
    RecordKey::new(secret).id()
}

/// The record with a checksum that fits, as whoever can write to the store can make it.
fn mended(mut value: Vec<u8>) -> Bytes {
    let sum = checksum(&value, &[]);
    value[CHECKSUM_AT].copy_from_slice(&sum.to_be_bytes());
    value.into()
}

#[test]
fn a_sealed_record_of_every_phase_comes_back_and_shows_its_head_alone() {
    for record in every_phase() {
        let codec = sealing(&[&OLD]);
        let Encoded { head, body } = codec.encode(&KEY, &record);
        assert!(is_version(&head, record.version));
        assert_eq!(split(joined(Encoded { head: head.clone(), body: body.clone() })), {
            Stored::Whole(Encoded { head: head.clone(), body: body.clone() })
        });
        let bytes = joined(Encoded { head: head.clone(), body: body.clone() });
        for plain in [b"/payments".as_slice(), b"location", b"/p/1", b"pay_17", b"paid", &OLD] {
            assert!(!bytes.windows(plain.len()).any(|window| window == plain), "{record:?}");
        }
        assert_eq!(codec.decode(&KEY, Encoded { head, body }), seen(&record));
    }
}

#[test]
fn a_record_to_which_nothing_is_done_keeps_the_first_format_byte_for_byte() {
    for codec in [Codec::default(), opening(&[&OLD]), compressing()] {
        for record in [claim(), done(), done_without_body()] {
            assert_eq!(codec.encode(&KEY, &record), encode(&record));
        }
    }
}

#[test]
fn two_writes_of_one_record_are_not_alike() {
    assert_ne!(sealed_whole(&done()), sealed_whole(&done()));
}

#[test]
fn the_ids_of_keys_are_frozen_and_say_nothing_of_the_key() {
    assert_eq!(id_of(&OLD).to_string(), "a45d46f05e4663a0");
    assert_eq!(format!("{:?}", RecordKey::new(&OLD)), format!("RecordKey({}, redacted)", id_of(&OLD)));
    let shown = format!("{:?}", sealing(&[&OLD]));
    assert!(!shown.contains("1, 1") && !shown.contains("0101"), "{shown}");
}

#[test]
fn a_large_body_is_compressed_where_that_wins_something_and_comes_back() {
    for codec in [compressing(), sealing_and_compressing()] {
        let encoded = codec.encode(&KEY, &long());
        assert!(encoded.body.len() < 500, "{} bytes", encoded.body.len());
        assert_eq!(encoded.head[DONE_TO_IT_AT] & COMPRESSED, COMPRESSED);
        assert_eq!(codec.decode(&KEY, encoded), seen(&long()));
    }
}

#[test]
fn a_compressed_record_is_read_where_compression_is_off() {
    let encoded = compressing().encode(&KEY, &long());
    assert_eq!(decode(encoded), seen(&long()));
}

#[test]
fn every_key_in_the_list_opens_and_the_first_seals() {
    let old = sealed_whole(&done());
    let both = sealing(&[&NEW, &OLD]);
    assert_eq!(both.decode_whole(&KEY, old), seen(&done()));
    let new = joined(both.encode(&KEY, &done()));
    assert_eq!(sealing(&[&NEW]).decode_whole(&KEY, new.clone()), seen(&done()));
    assert_eq!(cause(&sealing(&[&OLD]), new), Cause::UnknownKey(id_of(&NEW)));
}

#[test]
fn a_sealed_record_is_unreadable_without_its_key_and_never_absent() {
    for codec in [Codec::default(), opening(&[&NEW]), sealing(&[]), sealing(&[&NEW])] {
        assert_eq!(cause(&codec, sealed_whole(&claim())), Cause::UnknownKey(id_of(&OLD)));
        assert_eq!(codec.decode_whole(&KEY, sealed_whole(&claim())), Seen::Unreadable);
    }
}

#[test]
fn a_codec_that_only_opens_reads_what_others_sealed_and_seals_nothing() {
    let codec = opening(&[&OLD]);
    assert_eq!(codec.decode_whole(&KEY, sealed_whole(&done())), seen(&done()));
    assert_eq!(codec.decode_whole(&KEY, whole(&done())), seen(&done()));
    assert_eq!(joined(codec.encode(&KEY, &done())), whole(&done()));
}

#[test]
fn what_is_not_sealed_is_read_only_where_that_is_accepted() {
    let compressed = joined(compressing().encode(&KEY, &long()));
    for (plain, record) in [(whole(&done()), done()), (compressed, long())] {
        assert_eq!(cause(&sealing(&[&OLD]), plain.clone()), Cause::Unsealed);
        assert_eq!(accepting(&[&OLD]).decode_whole(&KEY, plain), seen(&record));
    }
}

#[test]
fn a_record_under_another_storage_key_does_not_open() {
    let elsewhere = StorageKey::from_bytes([8; 32]);
    for record in every_phase() {
        let found = cause_at(&sealing(&[&OLD]), &elsewhere, sealed_whole(&record));
        assert_eq!(found, Cause::Forged(id_of(&OLD)));
    }
}

#[test]
fn no_bit_of_a_sealed_record_can_be_changed_even_with_a_checksum_that_fits() {
    for codec in [sealing(&[&OLD]), accepting(&[&OLD]), sealing_and_compressing()] {
        for record in [claim(), done(), long()] {
            let bytes = joined(codec.encode(&KEY, &record));
            let bits = bytes.len() * 8;
            // Every bit of head and metadata, and of a long body some.
            for at in (0..bits).filter(|at| *at < 2500 || at % 97 == 0 || *at + 200 > bits) {
                let mut damaged = bytes.to_vec();
                damaged[at / 8] ^= 1 << (at % 8);
                assert_eq!(codec.decode_whole(&KEY, damaged.clone().into()), Seen::Unreadable, "bit {at}");
                if !(CHECKSUM_AT.start * 8..CHECKSUM_AT.end * 8).contains(&at) {
                    assert_eq!(codec.decode_whole(&KEY, mended(damaged)), Seen::Unreadable, "bit {at}");
                }
            }
        }
    }
}

#[test]
fn a_sealed_record_cut_short_or_continued_is_unreadable() {
    let bytes = sealed_whole(&done());
    let codec = sealing(&[&OLD]);
    for len in 0..bytes.len() {
        assert_eq!(codec.decode_whole(&KEY, bytes.slice(..len)), Seen::Unreadable, "{len} bytes");
    }
    assert_eq!(codec.decode_whole(&KEY, [&bytes[..], b"x"].concat().into()), Seen::Unreadable);
}

/// Two records alike in everything but their answers; also as alike as two writes of one claim can be.
fn alike() -> (Record, Record) {
    (answered(Bytes::from_static(b"paid to Alice")), answered(Bytes::from_static(b"paid to Mallo")))
}

#[test]
fn neither_body_nor_metadata_of_another_record_opens_however_alike_they_are() {
    let codec = sealing(&[&OLD]);
    let (one, other) = alike();
    let (one, other) = (codec.encode(&KEY, &one), codec.encode(&KEY, &other));
    let swapped = [
        (one.head.clone(), other.body.clone()),
        ([&one.head[..HEAD_LEN], &other.head[HEAD_LEN..]].concat().into(), one.body.clone()),
        ([&one.head[..HEAD_LEN], &other.head[HEAD_LEN..]].concat().into(), other.body.clone()),
    ];
    // All three stand in one place and have one length: only the last is a whole record, the other's own.
    let read = swapped.map(|(head, body)| codec.read(&KEY, whole_of(&head, &body)).is_ok());
    assert_eq!(read, [false, false, true]);
}

fn whole_of(head: &Bytes, body: &Bytes) -> Encoded {
    let len = head.len();
    let value = mended([&head[..], &body[..]].concat());
    Encoded { head: value.slice(..len), body: value.slice(len..) }
}

#[test]
fn metadata_is_not_taken_for_a_body_nor_a_record_for_one_of_another_phase() {
    let codec = sealing(&[&OLD]);
    let encoded = codec.encode(&KEY, &done());
    let meta = &encoded.head[HEAD_LEN + KEY_ID_LEN..];
    let place = Place { key: &KEY, head: &encoded.head };
    let metadata = &encoded.head[HEAD_LEN..];
    assert!(RecordKey::new(&OLD).open(place, Part::Body { metadata }, meta).is_none());
    let mut bytes = joined(encoded).to_vec();
    bytes[PHASE_AT] = 0;
    assert_eq!(cause(&codec, mended(bytes)), Cause::Forged(id_of(&OLD)));
}

#[test]
fn the_cause_tells_damage_from_another_format() {
    let codec = sealing(&[&OLD]);
    for (at, byte, expected) in [
        (FORMAT_AT, 3, Cause::NewerFormat(3)),
        (FORMAT_AT, 255, Cause::NewerFormat(255)),
        (FINGERPRINT_VERSION_AT, 2, Cause::NewerFormat(2)),
        (FORMAT_AT, 0, Cause::Damaged),
        (FORMAT_AT, 1, Cause::Damaged),
        (DONE_TO_IT_AT, 0, Cause::Damaged),
        (DONE_TO_IT_AT, 4, Cause::Damaged),
        (0, b'o', Cause::Damaged),
    ] {
        let mut bytes = sealed_whole(&done()).to_vec();
        bytes[at] = byte;
        assert_eq!(cause(&codec, mended(bytes)), expected, "byte {at} is {byte}");
    }
}

#[test]
fn a_plain_record_may_not_be_passed_off_as_one_of_another_length() {
    let bytes = joined(compressing().encode(&KEY, &long()));
    for len in [0, 1, 4999, 5001, 1 << 40, u64::MAX] {
        let mut bytes = bytes.to_vec();
        bytes[HEAD_LEN..HEAD_LEN + PLAIN_LEN].copy_from_slice(&u64::to_be_bytes(len));
        assert_eq!(cause(&Codec::default(), mended(bytes)), Cause::Damaged, "{len}");
    }
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop_oneof![
        Just(sealing(&[&OLD])),
        Just(accepting(&[&NEW, &OLD])),
        Just(compressing()),
        Just(sealing_and_compressing()),
    ]
}

/// Bodies of which some can be made smaller.
fn any_body() -> impl Strategy<Value = Bytes> {
    (any_bytes(64), 0..200_usize).prop_map(|(bytes, times)| bytes.repeat(times).into())
}

proptest! {
    #[test]
    fn whatever_is_sealed_or_compressed_is_read_back(
        record in any_record(),
        body in any_body(),
        codec in any_codec(),
        key in any::<[u8; 32]>(),
    ) {
        let mut record = record;
        if let Phase::Done { saved, .. } = &mut record.phase {
            saved.body = body;
        }
        let key = StorageKey::from_bytes(key);
        let encoded = codec.encode(&key, &record);
        prop_assert_eq!(codec.decode_whole(&key, joined(encoded.clone())), seen(&record));
        prop_assert_eq!(codec.decode(&key, encoded), seen(&record));
    }

    #[test]
    fn whatever_is_taken_for_a_record_of_the_second_format_does_not_panic(
        tail in any_bytes(400),
        done_to_it in 0..5_u8,
        body_len in 0..200_usize,
        codec in any_codec(),
    ) {
        let body_len = body_len.min(tail.len());
        let mut bytes = whole(&done())[..HEAD_LEN].to_vec();
        bytes[FORMAT_AT] = FORMAT_MAX;
        bytes[DONE_TO_IT_AT] = done_to_it;
        bytes[74..78].copy_from_slice(&u32::try_from(tail.len() - body_len).unwrap().to_be_bytes());
        bytes[78..86].copy_from_slice(&u64::try_from(body_len).unwrap().to_be_bytes());
        bytes.extend_from_slice(&tail);
        prop_assert_eq!(codec.decode_whole(&KEY, mended(bytes)), Seen::Unreadable);
    }

    #[test]
    fn a_record_with_any_bit_flipped_is_not_read_whatever_was_done_to_it(
        record in any_record(),
        how in 0..4_usize,
        at in any::<prop::sample::Index>(),
    ) {
        let codec = &every_codec()[how];
        let mut bytes = joined(codec.encode(&KEY, &record)).to_vec();
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(codec.decode_whole(&KEY, bytes.into()), Seen::Unreadable, "bit {}", bit);
    }

    #[test]
    fn a_sealed_record_whose_checksum_was_put_right_again_is_not_read(
        record in any_record(),
        how in 2..4_usize,
        at in any::<prop::sample::Index>(),
    ) {
        let codec = &every_codec()[how];
        let mut bytes = joined(codec.encode(&KEY, &record)).to_vec();
        let bit = at.index(CHECKSUM_AT.start * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(codec.decode_whole(&KEY, mended(bytes)), Seen::Unreadable, "bit {}", bit);
    }
}
