//! HTTP's dates (RFC 9110 §5.6.7): the one form that servers must send, read into Unix time.

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Reads an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`, as seconds since the Unix epoch.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':');
    let mut next = || clock.next()?.parse::<u64>().ok();
    let (hour, minute, second) = (next()?, next()?, next()?);
    if words.next()? != "GMT"
        || !(1970..=9999).contains(&year)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let days = days_before_year(year) - days_before_year(1970)
        + days_before_month(year, month)
        + (day - 1);
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Writes seconds since the Unix epoch as `1994-11-06 08:49:37`, in UTC.
pub(super) fn date_and_time(unix: u64) -> String {
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    // A year has 365.2425 days at most, so this is the year or the one before it.
    let mut year = 1970 + days * 10_000 / 3_652_425;
    while days_before_year(year + 1) - days_before_year(1970) <= days {
        year += 1;
    }
    let mut day = days + days_before_year(1970) - days_before_year(year);
    let mut month = 11;
    while days_before_month(year, month) > day {
        month -= 1;
    }
    day -= days_before_month(year, month);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let (month, day) = (month + 1, day + 1);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Days from the year 1 to the first of January, in the Gregorian calendar.
const fn days_before_year(year: u64) -> u64 {
    let past = year - 1;
    past * 365 + past / 4 - past / 100 + past / 400
}

/// Days of the year before a month (counted from 0).
fn days_before_month(year: u64, month: usize) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if leap { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        .iter()
        .take(month)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dates_are_read_over_leap_years() {
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        assert_eq!(parse("Fri, 01 Mar 2024 00:00:00 GMT"), Some(1_709_251_200));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "soon",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 0 08:49:37 GMT",
            "Sun, 06 Abc 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
