//! Which octets may stand where in HTTP/1, for those who look at messages before hyper does.

/// RFC 9110 §5.6.2: the octets of a token, a bit for each.
const TOKEN: u128 = {
    let (mut bits, mut octet) = (0, 0);
    while octet < 128 {
        if stands_in_a_token(octet) {
            bits |= 1 << octet;
        }
        octet += 1;
    }
    bits
};

/// Whether an octet may stand in a token: a method, a field's name. Every octet of every name is asked for.
pub const fn is_token(octet: u8) -> bool {
    octet < 128 && TOKEN >> octet & 1 == 1
}

const fn stands_in_a_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_no_delimiter_no_blank_and_nothing_but_visible_ascii() {
        for octet in 0..=u8::MAX {
            let is_delimiter = br#"(),/:;<=>?@[\]{}""#.contains(&octet);
            assert_eq!(is_token(octet), octet.is_ascii_graphic() && !is_delimiter, "{octet:#x}");
        }
    }
}
