//! Numbers as people read them.

/// `1,634,570`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `30.0 %` of the whole.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::new();
    }
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}

/// `2.3e-7`, or `0` where there is none at all.
pub(super) fn difference(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else {
        format!("{value:.1e}")
    }
}

/// A count of things that has to be a `u64` somewhere.
pub(super) fn count(number: usize) -> String {
    grouped(u64::try_from(number).unwrap_or(u64::MAX))
}

/// `1.04 s`, `161 ms`, `8.31 ms`, `45.2 us`: three digits.
pub(super) fn seconds(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value >= 1.0 => (value, "s"),
        value if value >= 1e-3 => (value * 1e3, "ms"),
        value => (value * 1e6, "us"),
    };
    let decimals = match scaled {
        scaled if scaled < 9.995 => 2,
        scaled if scaled < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$} {unit}")
}

/// `553.4 MB`, in powers of ten as file managers have it.
pub(super) fn megabytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    let decimals = if megabytes < 10.0 { 2 } else { 1 };
    format!("{megabytes:.decimals$} MB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_a_few_digits() {
        let cases = [
            (0.161_4, "161 ms"),
            (0.008_314, "8.31 ms"),
            (0.099_96, "100 ms"),
            (4.52e-5, "45.2 us"),
            (2.5, "2.50 s"),
            (12.34, "12.3 s"),
            (0.0, "0.00 us"),
        ];
        for (value, expected) in cases {
            assert_eq!(seconds(value), expected);
        }
        assert_eq!(megabytes(553_416_318), "553.4 MB");
        assert_eq!(megabytes(155_879), "0.16 MB");
    }

    #[test]
    fn digits_come_in_threes() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_634_570, "1,634,570"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!(share(941, 3136), "30.0 %");
        assert_eq!(share(1, 1), "100.0 %");
        assert_eq!(share(0, 0), "");
    }
}
