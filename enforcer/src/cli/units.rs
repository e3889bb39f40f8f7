//! Numbers as people read them.

/// Bytes with the unit that leaves at most four digits.
pub fn bytes(count: u64) -> String {
    if count < 1000 { format!("{count} B") } else { scaled(count as f64, "B") }
}

/// Bits a second, likewise.
pub fn bits(rate: f64) -> String {
    if rate < 1000.0 { format!("{rate:.0} b/s") } else { scaled(rate, "b/s") }
}

/// A rate or a count, with thousands set apart.
pub fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds, in the two largest units.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn scaled(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 4] = ["k", "M", "G", "T"];
    // The largest value that is still shown with the first prefix is 999.9 of it.
    let power = PREFIXES.iter().enumerate().take_while(|(power, _)| value >= 999_950.0 * 1000f64.powi(*power as i32));
    let power = power.count().min(PREFIXES.len() - 1);
    format!("{:.1} {}{unit}", value / 1000f64.powi(power as i32 + 1), PREFIXES[power])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_few_digits() {
        let cases = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB")];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
        assert_eq!([bits(0.4), bits(12_345_678.0)], ["0 b/s", "12.3 Mb/s"]);
        assert_eq!([number(0.0), number(999.6), number(1_234_567.0)], ["0", "1,000", "1,234,567"]);
        assert_eq!(
            [duration(59), duration(61), duration(3700), duration(90_000)],
            ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
        );
    }
}
