//! The field by which a request says which trace it belongs to, read and written.
//!
//! Source: W3C Trace Context, level 1 and 2. A field that is not of that form tells nothing, and is no reason to refuse
//! a request. Must not know what is recorded.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Length of a field of version 00, and of what later versions begin with.
const LENGTH: usize = 55;

/// Whether whoever sent it records the trace.
const SAMPLED: u8 = 1;

/// Which trace something belongs to. Never all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub(super) [u8; 16]);

/// One stretch of a trace. Never all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpanId(pub(super) [u8; 8]);

/// Where in which trace a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    flags: u8,
}

/// What a request says of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// Something that cannot be read, or two things.
    Unreadable,
    /// This.
    Context(Context),
}

impl Told {
    /// Reads it from a request's fields.
    pub fn by(fields: &HeaderMap) -> Self {
        let mut lines = fields.get_all(TRACEPARENT).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self::Nothing,
            (Some(line), None) => Context::read(line.as_bytes()).map_or(Self::Unreadable, Self::Context),
            (Some(_), Some(_)) => Self::Unreadable,
        }
    }
}

impl Context {
    /// The beginning of a trace.
    pub(super) fn fresh(is_sampled: impl FnOnce(TraceId) -> bool) -> Self {
        let trace = TraceId::random();
        let flags = if is_sampled(trace) { SAMPLED } else { 0 };
        Self { trace, span: SpanId::random(), flags }
    }

    /// Another stretch of the same trace.
    pub(super) fn child(self) -> Self {
        Self { span: SpanId::random(), ..self }
    }

    /// The trace it belongs to.
    pub fn trace(&self) -> TraceId {
        self.trace
    }

    /// Whether it is recorded.
    pub(super) fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    fn read(line: &[u8]) -> Option<Self> {
        let (known, more) = line.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let [version] = hex(parts.next()?)?;
        let (trace, span) = (hex(parts.next()?)?, hex(parts.next()?)?);
        let [flags] = hex(parts.next()?)?;
        // Later versions may say more, after another dash; 255 is none.
        let is_of_its_version = match version {
            0 => more.is_empty(),
            255 => false,
            _ => more.is_empty() || more.starts_with(b"-"),
        };
        let is_none = trace == [0; 16] || span == [0; 8] || parts.next().is_some();
        (is_of_its_version && !is_none).then_some(Self { trace: TraceId(trace), span: SpanId(span), flags })
    }

    /// As the field, of version 00.
    pub(super) fn field(self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("00-{}-{}-{:02x}", self.trace, self.span, self.flags)).ok()
    }
}

impl TraceId {
    fn random() -> Self {
        Self(uuid::Uuid::new_v4().into_bytes())
    }

    /// The part that is random whoever made it (W3C Trace Context level 2 §5.1).
    pub(super) fn random_part(self) -> u64 {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(self.0.iter().skip(8)).for_each(|(to, from)| *to = *from);
        u64::from_be_bytes(bytes) & 0x00ff_ffff_ffff_ffff
    }
}

impl SpanId {
    /// Never zero: in the second half of a random UUID stand two bits of its form.
    fn random() -> Self {
        let mut bytes = [0; 8];
        let random = uuid::Uuid::new_v4().into_bytes();
        bytes.iter_mut().zip(random.iter().skip(8)).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }
}

/// Lower-case digits, as the form demands.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn told(lines: &[&str]) -> Told {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(TRACEPARENT, line.parse().unwrap());
        }
        Told::by(&fields)
    }

    #[test]
    fn a_field_is_read_and_written_as_it_was() {
        for flags in ["00", "01", "03"] {
            let line = format!("00-{TRACE}-{SPAN}-{flags}");
            let Told::Context(context) = told(&[&line]) else { panic!("{line}") };
            assert_eq!(context.is_sampled(), flags != "00");
            assert_eq!(context.field().unwrap(), line);
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for line in [format!("01-{TRACE}-{SPAN}-01"), format!("cc-{TRACE}-{SPAN}-01-what the future brings")]
        {
            assert!(matches!(told(&[&line]), Told::Context(context) if context.is_sampled()), "{line}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_tells_nothing() {
        let zeros = "0".repeat(32);
        for line in [
            "",
            "00",
            &format!("ff-{TRACE}-{SPAN}-01"),
            &format!("00-{TRACE}-{SPAN}-01-more"),
            &format!("01-{TRACE}-{SPAN}-01more"),
            &format!("00-{TRACE}-{SPAN}-1"),
            &format!("00-{zeros}-{SPAN}-01"),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            &format!("00_{TRACE}_{SPAN}_01"),
            &format!("00-{TRACE}{SPAN}--01"),
            &format!("0x-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(told(&[line]), Told::Unreadable, "{line}");
        }
    }

    #[test]
    fn two_fields_tell_nothing() {
        let line = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!((told(&[]), told(&[&line, &line])), (Told::Nothing, Told::Unreadable));
    }

    #[test]
    fn fresh_ids_are_never_zero_and_never_alike() {
        let (one, other) = (Context::fresh(|_| true), Context::fresh(|_| false));
        assert!(one.trace != other.trace && one.span != other.span && one.child().span != one.span);
        assert!(one.is_sampled() && !other.is_sampled());
        assert!(one.span.0 != [0; 8] && one.child().trace == one.trace);
    }
}
