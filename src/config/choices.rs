//! The words of a file for the choices that are one of a few, in one table each.

use crate::protocol::key::KeyFormat;
use crate::protocol::policy::{
    FingerprintBody, InFlightMode, KeyMode, Mode, On5xx, OnStoreError, OnUnknown, ScopeMissing,
};

use super::{
    Admission, CallersCertificate, Compression, Forwarded, ForwardedFields, LogFormat, PathCase, Protocol,
};

/// A choice that is written as one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every word with what it means.
    const WORDS: &'static [(&'static str, Self)];
}

/// The word for a choice.
pub fn name_of<T: Choice>(choice: T) -> &'static str {
    // Every variant is in its table (a test looks), so the empty word is never seen.
    T::WORDS.iter().find(|(_, meant)| *meant == choice).map_or("", |(word, _)| word)
}

/// The words of a choice.
pub(super) fn words_of<T: Choice>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}

impl Choice for KeyMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("required", Self::Required), ("optional", Self::Optional), ("off", Self::Off)];
}

impl Choice for KeyFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("any", Self::Any), ("uuid", Self::Uuid), ("sf-string", Self::SfString)];
}

impl Choice for ScopeMissing {
    const WORDS: &'static [(&'static str, Self)] =
        &[("anonymous", Self::Anonymous), ("reject", Self::Reject)];
}

impl Choice for FingerprintBody {
    const WORDS: &'static [(&'static str, Self)] =
        &[("bytes", Self::Bytes), ("json", Self::Json), ("off", Self::Off)];
}

impl Choice for InFlightMode {
    const WORDS: &'static [(&'static str, Self)] = &[("reject", Self::Reject), ("wait", Self::Wait)];
}

impl Choice for OnUnknown {
    const WORDS: &'static [(&'static str, Self)] = &[("reject", Self::Reject), ("retry", Self::Retry)];
}

impl Choice for OnStoreError {
    const WORDS: &'static [(&'static str, Self)] = &[("reject", Self::Reject), ("forward", Self::Forward)];
}

impl Choice for On5xx {
    const WORDS: &'static [(&'static str, Self)] =
        &[("store", Self::Store), ("release", Self::Release), ("unknown", Self::Unknown)];
}

impl Choice for Mode {
    const WORDS: &'static [(&'static str, Self)] = &[("enforce", Self::Enforce), ("observe", Self::Observe)];
}

impl Choice for Forwarded {
    const WORDS: &'static [(&'static str, Self)] =
        &[("append", Self::Append), ("replace", Self::Replace), ("leave", Self::Leave)];
}

impl Choice for ForwardedFields {
    const WORDS: &'static [(&'static str, Self)] =
        &[("x-forwarded", Self::XForwarded), ("forwarded", Self::Forwarded), ("both", Self::Both)];
}

impl Choice for CallersCertificate {
    const WORDS: &'static [(&'static str, Self)] =
        &[("required", Self::Required), ("optional", Self::Optional)];
}

impl Choice for Protocol {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("http1", Self::Http1), ("http2", Self::Http2)];
}

impl Choice for Admission {
    const WORDS: &'static [(&'static str, Self)] = &[("adaptive", Self::Adaptive), ("fixed", Self::Fixed)];
}

impl Choice for PathCase {
    const WORDS: &'static [(&'static str, Self)] =
        &[("sensitive", Self::Sensitive), ("insensitive", Self::Insensitive)];
}

impl Choice for Compression {
    const WORDS: &'static [(&'static str, Self)] = &[("off", Self::Off), ("zstd", Self::Zstd)];
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("human", Self::Human), ("json", Self::Json)];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_word_names_its_choice<T: Choice + std::fmt::Debug>() {
        for (word, choice) in T::WORDS {
            assert_eq!(name_of(*choice), *word, "{choice:?} stands twice");
        }
    }

    #[test]
    fn each_choice_has_one_word() {
        each_word_names_its_choice::<KeyMode>();
        each_word_names_its_choice::<KeyFormat>();
        each_word_names_its_choice::<ScopeMissing>();
        each_word_names_its_choice::<FingerprintBody>();
        each_word_names_its_choice::<InFlightMode>();
        each_word_names_its_choice::<OnUnknown>();
        each_word_names_its_choice::<OnStoreError>();
        each_word_names_its_choice::<On5xx>();
        each_word_names_its_choice::<Mode>();
        each_word_names_its_choice::<Forwarded>();
        each_word_names_its_choice::<ForwardedFields>();
        each_word_names_its_choice::<CallersCertificate>();
        each_word_names_its_choice::<Protocol>();
        each_word_names_its_choice::<Admission>();
        each_word_names_its_choice::<PathCase>();
        each_word_names_its_choice::<Compression>();
        each_word_names_its_choice::<LogFormat>();
    }
}
