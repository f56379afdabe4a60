//! Amounts (`resource.Quantity`): in the API server's canonical form, so that what is read back is
//! what was written, and as numbers.

/// An amount: a decimal of nine places, and the form that it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount {
    nanos: i128,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Decimal,
    Binary,
    Exponent,
}

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, i32); 9] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The canonical form; what is no amount stays as it is, and the API server refuses it.
pub(crate) fn canonical(text: &str) -> String {
    parse(text).map_or_else(|| text.to_owned(), format)
}

/// The amount in whole units, for example bytes, rounded up; `None` if it is no amount.
pub(crate) fn units(text: &str) -> Option<u64> {
    let nanos = parse(text)?.nanos;
    u64::try_from((nanos + NANO - 1) / NANO).ok()
}

/// The amount in thousandths, for example of a processor.
pub(crate) fn millis(text: &str) -> Option<i128> {
    Some(parse(text)?.nanos / 1_000_000)
}

fn parse(text: &str) -> Option<Amount> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let (form, factor, exponent) = suffix_value(suffix)?;
    let value = digits.checked_mul(factor)?;
    let shift = exponent - places + 9;
    let nanos = match u32::try_from(shift) {
        Ok(up) => value.checked_mul(10_i128.checked_pow(up)?)?,
        // Less than a billionth: rounded up.
        Err(_) => {
            let down = 10_i128.checked_pow(shift.unsigned_abs())?;
            (value + down - 1) / down
        }
    };
    (nanos <= i128::from(i64::MAX) * NANO).then_some(Amount { nanos, form })
}

fn suffix_value(suffix: &str) -> Option<(Form, i128, i32)> {
    if suffix.is_empty() {
        return Some((Form::Decimal, 1, 0));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(text, _)| *text == suffix) {
        return Some((Form::Decimal, 1, *exponent));
    }
    if let Some(power) = BINARY.iter().position(|text| *text == suffix) {
        return Some((Form::Binary, 1 << (10 * (power + 1)), 0));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (-30..=30)
        .contains(&exponent)
        .then_some((Form::Exponent, 1, exponent))
}

fn format(amount: Amount) -> String {
    if amount.nanos == 0 {
        return "0".into();
    }
    let whole = amount.nanos % NANO == 0;
    if amount.form == Form::Binary && whole && amount.nanos >= 1024 * NANO {
        let (mut value, mut suffix) = (amount.nanos / NANO, "");
        for next in BINARY {
            if value % 1024 != 0 {
                break;
            }
            (value, suffix) = (value / 1024, next);
        }
        return format!("{value}{suffix}");
    }
    let (mut value, mut exponent) = (amount.nanos, -9);
    while value % 1000 == 0 {
        (value, exponent) = (value / 1000, exponent + 3);
    }
    if exponent == 0 {
        return value.to_string();
    }
    let suffix = DECIMAL.iter().find(|(_, known)| *known == exponent);
    match (amount.form, suffix) {
        (Form::Decimal | Form::Binary, Some((suffix, _))) => format!("{value}{suffix}"),
        _ => format!("{value}e{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `resource.ParseQuantity` of `k8s.io/apimachinery` v0.36.3 writes them again.
    #[test]
    fn canonical_forms_are_those_of_the_api_server() {
        for (written, read) in [
            ("0", "0"),
            ("0Mi", "0"),
            ("1", "1"),
            ("10", "10"),
            ("100", "100"),
            ("1000", "1k"),
            ("1000m", "1"),
            ("100m", "100m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.5", "1500m"),
            ("2000m", "2"),
            ("0.1m", "100u"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1536Ki", "1536Ki"),
            ("512Mi", "512Mi"),
            ("0.5Ki", "512"),
            ("1Ki", "1Ki"),
            ("1.0001Ki", "1024102400u"),
            ("128974848", "128974848"),
            ("129M", "129M"),
            ("1000M", "1G"),
            ("1e3", "1e3"),
            ("10e3", "10e3"),
            ("1e4", "10e3"),
            ("5e-1", "500e-3"),
        ] {
            assert_eq!(canonical(written), read, "{written}");
            assert_eq!(canonical(read), read, "{read} is canonical");
        }
    }

    #[test]
    fn what_is_no_amount_stays_as_it_is() {
        for text in [
            "", ".", "x", "1 Gi", "1Gb", "1.2.3", "--1", "1e", "1e999", "9E9E",
        ] {
            assert_eq!(canonical(text), text);
            assert_eq!(units(text), None, "{text}");
        }
        let huge = "9".repeat(60);
        assert_eq!(canonical(&huge), huge);
    }

    #[test]
    fn amounts_are_numbers() {
        assert_eq!(units("512Mi"), Some(512 << 20));
        assert_eq!(units("1.5Gi"), Some(1536 << 20));
        assert_eq!(units("100m"), Some(1));
        assert_eq!(units("1M"), Some(1_000_000));
    }
}
