//! Times for people and programs.

use std::time::Duration;

/// The time of so many seconds of Unix, in UTC (RFC 3339): `2026-11-29T05:18:45Z`.
pub(crate) fn rfc3339(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// The same to the millisecond: `2026-11-29T05:18:45.120Z`.
pub(crate) fn rfc3339_ms(unix: Duration) -> String {
    let whole = rfc3339(unix.as_secs());
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), unix.subsec_millis())
}

/// The date that is so many days after 1970-01-01, in the Gregorian calendar. Years are counted from March, so that the day of a leap year
/// is their last, in eras of 400 years, which have 146,097 days each; 719,468 days are from 0000-03-01 to 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, five months have 153 days.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By date(1): `date -u -d @N +%FT%TZ`.
    #[test]
    fn a_time_is_the_one_that_date_prints() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_929_525, "2026-11-29T05:18:45Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(unix_s), text);
        }
        assert_eq!(rfc3339_ms(Duration::from_millis(86_400_007)), "1970-01-02T00:00:00.007Z");
    }
}
