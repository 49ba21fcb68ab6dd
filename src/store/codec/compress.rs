//! Makes large bodies smaller, by zstd, and gives them back. Must not know records.
//!
//! What is read back may have been written by anybody who can write to the store: it never takes more
//! memory than its told length, and a told length is never many times what is stored. What would have to be, stays as
//! it is when it is written.

use std::cell::RefCell;
use std::io;
use std::thread::LocalKey;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

/// A smaller body is left as it is: little can be won.
const LEN_MIN: usize = 1024;

/// The fastest of the usual levels: bodies are compressed while their callers wait.
const LEVEL: i32 = 1;

/// What must be won, as a part of the body: an eighth. Less is not worth the time of reading it back.
const WON_MIN: usize = 8;

/// No body is longer: `response_body_max` goes no further.
const LEN_MAX: u64 = 1024 * 1024 * 1024;

/// How many bytes one that is stored stands for at the most. zstd could have it stand for 32 KiB, and a few records that
/// somebody put into the store would take all memory.
const EXPANSION_MAX: u64 = 256;

/// Up to this length a body may be made of however little: it is the default of `response_body_max`, so a gateway has room
/// for many of this length.
const FREE_LEN: u64 = 1024 * 1024;

/// What happens to large bodies before they are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    #[default]
    Off,
    /// They are compressed with zstd, where that makes them smaller.
    Zstd,
}

impl Compression {
    /// The body made smaller; `None` where it stays as it is.
    pub(super) fn squeeze(self, body: &Bytes) -> Option<Bytes> {
        match self {
            Self::Zstd if body.len() >= LEN_MIN => squeeze(body),
            Self::Off | Self::Zstd => None,
        }
    }
}

fn squeeze(body: &[u8]) -> Option<Bytes> {
    // What does not fit in here is not small enough.
    let mut small = Vec::with_capacity(body.len() - body.len() / WON_MIN);
    let compress =
        |compressor: &mut Compressor<'static>| compressor.compress_to_buffer(body, &mut small).ok();
    with(&COMPRESSOR, || Compressor::new(LEVEL), compress)?;
    if !is_possible(small.len(), u64::try_from(body.len()).ok()?) {
        return None;
    }
    // It is kept for as long as the record: no more than it needs.
    small.shrink_to_fit();
    Some(small.into())
}

/// The body of `len` bytes that was made smaller. `None`: it is none.
pub(super) fn expand(small: &[u8], len: u64) -> Option<Bytes> {
    if !is_possible(small.len(), len) {
        return None;
    }
    let len = usize::try_from(len).ok()?;
    let mut body = Vec::new();
    // Reserved, not filled: memory that is never written is never taken from the system.
    body.try_reserve_exact(len).ok()?;
    let expand = |expander: &mut Decompressor<'static>| expander.decompress_to_buffer(small, &mut body).ok();
    with(&DECOMPRESSOR, Decompressor::new, expand)?;
    (body.len() == len).then(|| body.into())
}

/// Whether so few stored bytes may stand for a body of `len`.
fn is_possible(small: usize, len: u64) -> bool {
    let possible = u64::try_from(small).unwrap_or(u64::MAX).saturating_mul(EXPANSION_MAX);
    len <= possible.clamp(FREE_LEN, LEN_MAX)
}

thread_local! {
    // Making one took 20 µs, several times as long as using it on a small body. Each call begins anew, whatever
    // came of the one before.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Uses what this thread keeps, which is made when it is first needed.
fn with<C, T>(
    kept: &'static LocalKey<RefCell<Option<C>>>,
    make: impl Fn() -> io::Result<C>,
    work: impl FnOnce(&mut C) -> Option<T>,
) -> Option<T> {
    kept.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = make().ok();
        }
        work(kept.as_mut()?)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(len: usize) -> Bytes {
        b"{\"id\":\"pay_17\",\"status\":\"captured\"}".iter().copied().cycle().take(len).collect()
    }

    /// Bytes in which nothing repeats.
    fn noise(len: usize) -> Bytes {
        let mut noise = vec![0; len];
        aws_lc_rs::rand::fill(&mut noise).unwrap();
        noise.into()
    }

    #[test]
    fn a_large_body_that_repeats_itself_gets_smaller_and_comes_back() {
        for len in [LEN_MIN, 16 * 1024, 1024 * 1024] {
            let small = Compression::Zstd.squeeze(&text(len)).unwrap();
            assert!(small.len() < len / 4, "{len} bytes became {}", small.len());
            assert_eq!(expand(&small, u64::try_from(len).unwrap()), Some(text(len)));
        }
    }

    #[test]
    fn a_small_body_or_one_of_noise_stays_as_it_is() {
        assert_eq!(Compression::Zstd.squeeze(&text(LEN_MIN - 1)), None);
        assert_eq!(Compression::Zstd.squeeze(&noise(64 * 1024)), None);
        assert_eq!(Compression::Off.squeeze(&text(64 * 1024)), None);
    }

    #[test]
    fn a_failure_does_not_spoil_what_follows_on_its_thread() {
        let small = Compression::Zstd.squeeze(&text(5000)).unwrap();
        for _ in 0..3 {
            assert_eq!(Compression::Zstd.squeeze(&noise(5000)), None);
            assert_eq!(Compression::Zstd.squeeze(&text(5000)), Some(small.clone()));
            assert_eq!(expand(&small[..small.len() - 1], 5000), None);
            assert_eq!(expand(&small, 10), None);
            assert_eq!(expand(&small, 5000), Some(text(5000)));
        }
    }

    #[test]
    fn another_length_than_the_true_one_is_refused() {
        let small = Compression::Zstd.squeeze(&text(5000)).unwrap();
        for len in [0, 4999, 5001, LEN_MAX, LEN_MAX + 1, u64::MAX] {
            assert_eq!(expand(&small, len), None, "{len}");
        }
    }

    #[test]
    fn what_expands_beyond_its_told_length_is_stopped_there() {
        let bomb = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], LEVEL).unwrap();
        assert!(bomb.len() < 16 * 1024, "{} bytes", bomb.len());
        assert_eq!(expand(&bomb, 1000), None);
    }

    #[test]
    fn a_few_forged_bytes_never_become_many_however_true_their_told_length() {
        let len = 64 * 1024 * 1024;
        let bomb = zstd::bulk::compress(&vec![0; len], LEVEL).unwrap();
        assert!(bomb.len() < 16 * 1024, "{} bytes", bomb.len());
        assert_eq!(expand(&bomb, u64::try_from(len).unwrap()), None);
    }

    #[test]
    fn a_large_body_that_would_be_too_small_to_be_believed_stays_as_it_is() {
        let free = usize::try_from(FREE_LEN).unwrap();
        let zeros = |len: usize| Bytes::from(vec![0; len]);
        let small = Compression::Zstd.squeeze(&zeros(free)).unwrap();
        assert_eq!(expand(&small, FREE_LEN), Some(zeros(free)));
        assert_eq!(Compression::Zstd.squeeze(&zeros(free + 1)), None);
    }

    proptest! {
        #[test]
        fn whatever_is_expanded_does_not_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            len in any::<u32>(),
        ) {
            // The magic number first, so that some get further than that.
            let framed = [&[0x28, 0xb5, 0x2f, 0xfd], &bytes[..]].concat();
            for small in [&bytes, &framed] {
                let body = expand(small, len.into());
                prop_assert!(body.is_none_or(|body| body.len() == usize::try_from(len).unwrap()));
            }
        }
    }
}
