//! The ASCII form of an international hostname (RFC 3492).
//!
//! Does not: normalise (fold case beyond ASCII, compose accents). A name is encoded as it is written.

/// Bootstring parameters of RFC 3492 §5.
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const INITIAL_BIAS: u32 = 72;
const INITIAL_N: u32 = 128;

/// Most letters of a label that has an ASCII form. Each letter takes one byte at least, and a label has at
/// most 63 (RFC 1035 §2.3.4). Encoding takes time in the square of it.
const LABEL_LETTERS_MAX: usize = 63;

/// Encodes each label that is not ASCII. A label that cannot be encoded stays as it is.
pub(super) fn to_ascii(name: &str) -> String {
    let labels: Vec<String> = name.split('.').map(label_to_ascii).collect();
    labels.join(".")
}

fn label_to_ascii(label: &str) -> String {
    if label.is_ascii() {
        return label.to_owned();
    }
    let lower: Vec<char> = label
        .chars()
        .flat_map(char::to_lowercase)
        .take(LABEL_LETTERS_MAX + 1)
        .collect();
    let encoded = (lower.len() <= LABEL_LETTERS_MAX)
        .then(|| encode(&lower))
        .flatten();
    match encoded {
        Some(encoded) => format!("xn--{encoded}"),
        None => label.to_owned(),
    }
}

/// RFC 3492 §6.3; `None` on overflow.
fn encode(label: &[char]) -> Option<String> {
    let mut output: String = label.iter().filter(|letter| letter.is_ascii()).collect();
    let basic_count = u32::try_from(output.len()).ok()?;
    let total = u32::try_from(label.len()).ok()?;
    if basic_count > 0 {
        output.push('-');
    }
    let (mut n, mut delta, mut bias, mut handled) = (INITIAL_N, 0_u32, INITIAL_BIAS, basic_count);
    while handled < total {
        let next = label
            .iter()
            .map(|&letter| u32::from(letter))
            .filter(|&code| code >= n)
            .min()?;
        delta = delta.checked_add((next - n).checked_mul(handled.checked_add(1)?)?)?;
        n = next;
        for &letter in label {
            let code = u32::from(letter);
            if code < n {
                delta = delta.checked_add(1)?;
            }
            if code == n {
                push_integer(&mut output, delta, bias)?;
                bias = adapt(delta, handled + 1, handled == basic_count);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n = n.checked_add(1)?;
    }
    Some(output)
}

/// Appends `delta` as a generalised variable-length integer (RFC 3492 §3.3).
fn push_integer(output: &mut String, delta: u32, bias: u32) -> Option<()> {
    let mut rest = delta;
    let mut k = BASE;
    loop {
        let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if rest < threshold {
            output.push(digit(rest)?);
            return Some(());
        }
        output.push(digit(threshold + (rest - threshold) % (BASE - threshold))?);
        rest = (rest - threshold) / (BASE - threshold);
        k += BASE;
    }
}

fn adapt(delta: u32, count: u32, is_first: bool) -> u32 {
    let mut delta = if is_first { delta / DAMP } else { delta / 2 };
    delta += delta / count;
    let mut k = 0;
    while delta > ((BASE - T_MIN) * T_MAX) / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

/// `a` to `z` for 0 to 25, `0` to `9` for 26 to 35.
fn digit(value: u32) -> Option<char> {
    const DIGITS: &[u8; BASE as usize] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    DIGITS.get(usize::try_from(value).ok()?).copied().map(char::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_too_long_for_dns_stays_as_it_is() {
        // Encoded, this one would take minutes.
        let long: String = ('\u{4e00}'..='\u{9fff}').cycle().take(300_000).collect();
        assert_eq!(
            to_ascii(&format!("{long}.bücher")),
            format!("{long}.xn--bcher-kva")
        );
    }

    #[test]
    fn names_have_their_known_ascii_form() {
        for (name, expected) in [
            ("app.example.com", "app.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("münchen.de", "xn--mnchen-3ya.de"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"),
        ] {
            assert_eq!(to_ascii(name), expected);
        }
    }
}
