use schemas::facts::SensorState;

use super::*;
use crate::testing::{Journal, START, conclusions, decode};

fn told(journal: &Journal) -> Vec<WindowRevised> {
    let outputs = conclusions(&crate::all()[0], &journal.records);
    let window = |output| match decode(output).outcome {
        Outcome::Window(window) => window,
        other => panic!("{other:?}"),
    };
    outputs.iter().map(window).collect()
}

fn of(windows: &[WindowRevised], size: WindowSize) -> Vec<(i32, WindowStatus, i64)> {
    let those = windows.iter().filter(|w| w.size == size);
    those.map(|w| (w.revision, w.status, w.count)).collect()
}

const HR: Metric = Metric::HeartRate;

#[test]
fn a_window_is_written_at_the_next_tick_then_seldom_then_when_it_ends() {
    let mut journal = Journal::start();
    for second in 0..70 {
        if second < 60 {
            journal.reading("p", "s", HR, Span::seconds(second), 60.0 + second as f64);
        }
        journal.tick(Span::seconds(second));
    }
    let windows = told(&journal);
    use WindowStatus::{Complete, Open};
    let minutes = of(&windows, WindowSize::Minute);
    let opens = (0..30).map(|n| (n + 1, Open, i64::from(2 * n + 1)));
    assert_eq!(minutes, opens.chain([(31, Complete, 60)]).collect::<Vec<_>>());
    let last = windows.iter().rfind(|w| w.size == WindowSize::Minute).unwrap();
    assert_eq!(
        (last.min, last.max, last.first, last.last, last.mean),
        (60.0, 119.0, 60.0, 119.0, 89.5)
    );
    assert_eq!((last.start, last.end), (START, START + Span::minutes(1)));
    assert!((last.sd - (60.0_f64 * 61.0 / 12.0).sqrt()).abs() < 1e-9);
    assert_eq!((last.quality, last.coverage), (Some(97.0), None));
    assert_eq!(of(&windows, WindowSize::FiveMinutes).len(), 16, "every four seconds");
    assert_eq!(of(&windows, WindowSize::Hour).len(), 9, "every eight seconds");
    assert_eq!(of(&windows, WindowSize::Day).len(), 5, "at 0, 15, 30, 45 and 60 s");
}

/// A journal in which `others` other series have a reading each second of a minute, and p/s one every ten seconds in its second half.
fn under_load(others: usize) -> Journal {
    let mut journal = Journal::start();
    for second in 0..60 {
        for n in 0..others {
            journal.reading(&format!("q{n}"), "t", HR, Span::seconds(second), 60.0);
        }
        if second >= 30 && second % 10 == 0 {
            journal.reading("p", "s", HR, Span::seconds(second), 70.0);
        }
        journal.tick(Span::seconds(second));
    }
    journal
}

fn of_s(journal: &Journal) -> Vec<WindowRevised> {
    let mut windows = told(journal);
    windows.retain(|window| window.sensor_id.as_str() == "s");
    windows
}

#[test]
fn under_load_a_minute_is_written_when_it_is_complete_and_longer_windows_seldom() {
    use WindowStatus::{Complete, Open};
    let mut journal = under_load(400);
    journal.ticks(60, 80);
    let told = of_s(&journal);
    assert_eq!(
        of(&told, WindowSize::Minute),
        [(1, Complete, 3)],
        "within 20 s of its end"
    );
    journal.ticks(81, 110);
    let told = of_s(&journal);
    for size in [WindowSize::FiveMinutes, WindowSize::Hour, WindowSize::Day] {
        let last = of(&told, size).last().copied();
        assert!(
            matches!(last, Some((1 | 2, Open, 3))),
            "soon after the load has ended: {last:?}"
        );
    }
}

/// The seconds after START at which the minutes of `series` are written as complete, beside so much load.
fn completed(series: usize, load: usize) -> Vec<i64> {
    let mut journal = under_load(load);
    for n in 0..series {
        journal.reading(&format!("s{n}"), "s", HR, Span::seconds(59), 70.0);
    }
    journal.ticks(60, 90);
    let outputs = conclusions(&crate::all()[0], &journal.records);
    let complete = outputs.iter().map(decode).filter_map(|derived| match derived.outcome {
        Outcome::Window(w) if w.size == WindowSize::Minute && w.status == WindowStatus::Complete => {
            Some((derived.recorded_at - START).0 / 1_000_000)
        }
        _ => None,
    });
    complete.collect()
}

#[test]
fn windows_that_end_together_are_written_one_after_the_other_under_load_and_at_once_at_rest() {
    let at_rest = completed(40, 0);
    assert!(at_rest.iter().all(|at| *at == 60), "{at_rest:?}");
    let under_load = completed(40, 400);
    let mut moments = under_load.clone();
    moments.sort_unstable();
    moments.dedup();
    assert!(
        moments.len() > 10 && moments[0] >= 60 && moments[moments.len() - 1] <= 80,
        "{moments:?}"
    );
}

#[test]
fn a_little_load_makes_pauses_a_little_longer() {
    let told = of_s(&under_load(100));
    let minutes = of(&told, WindowSize::Minute);
    assert!(minutes.len() == 3, "{minutes:?}");
    let days = of(&told, WindowSize::Day);
    assert!(days.len() <= 1, "{days:?}");
}

#[test]
fn a_backlog_under_load_is_gathered_before_it_is_written() {
    let mut journal = under_load(400);
    for n in 0..50 {
        journal.reading("p", "s", HR, Span::seconds(-7_200 + n), 70.0);
        journal.tick(Span::seconds(60 + n / 10));
    }
    journal.ticks(70, 110);
    let told = of_s(&journal);
    let of_then = told
        .iter()
        .filter(|w| w.start == START - Span::hours(2) && w.size == WindowSize::Minute);
    let of_then: Vec<_> = of_then.map(|w| (w.status, w.count)).collect();
    assert_eq!(of_then, [(WindowStatus::Complete, 50)]);
}

#[test]
fn late_data_revises_a_window_that_was_complete() {
    let mut journal = Journal::start();
    journal.reading("p", "s", HR, Span::seconds(1), 60.0).ticks(1, 1);
    journal.tick(Span::minutes(2));
    journal
        .reading("p", "s", HR, Span::seconds(2), 80.0)
        .tick(Span::seconds(121));
    journal.reading("p", "s", HR, Span::seconds(3), 90.0).ticks(122, 130);
    use WindowStatus::{Complete, Open, Revised};
    assert_eq!(
        of(&told(&journal), WindowSize::Minute),
        [(1, Open, 1), (2, Complete, 1), (3, Revised, 3)]
    );
}

#[test]
fn a_backlog_first_seen_after_its_interval_is_complete_at_once() {
    let mut journal = Journal::start();
    journal.reading("p", "s", HR, Span::hours(-3), 60.0).ticks(1, 1);
    let windows = told(&journal);
    assert_eq!(of(&windows, WindowSize::Minute), [(1, WindowStatus::Complete, 1)]);
    assert_eq!(of(&windows, WindowSize::Hour), [(1, WindowStatus::Complete, 1)]);
    assert_eq!(of(&windows, WindowSize::Day), [(1, WindowStatus::Open, 1)]);
}

#[test]
fn repeats_old_readings_waveforms_and_falls_are_not_counted() {
    let mut journal = Journal::start();
    journal.reading("p", "s", HR, Span::seconds(1), 60.0);
    let same = journal.records.last().unwrap().envelope.clone();
    journal.again(same).reading("p", "s", HR, Span::seconds(1), 61.0);
    journal.reading("p", "s", HR, Span::seconds(-7 * 86_400 - 1), 60.0);
    journal.reading("p", "s", Metric::Ecg, Span::seconds(1), 0.1);
    journal.reading("p", "s", Metric::Fall, Span::seconds(1), 1.0);
    journal.reading("sensor:s", "s", HR, Span::seconds(1), 1.0);
    journal.ticks(1, 2);
    let windows = told(&journal);
    assert_eq!(of(&windows, WindowSize::Day), [(1, WindowStatus::Open, 2)]);
    assert_eq!(windows.len(), 4);
}

#[test]
fn coverage_is_told_once_the_sensor_has_promised_a_rhythm() {
    let mut journal = Journal::start();
    journal
        .reading("p", "s", HR, Span::seconds(1), 60.0)
        .tick(Span::seconds(1));
    journal.status("p", "s", Span::seconds(2), SensorState::Active, None);
    journal
        .reading("p", "s", HR, Span::seconds(31), 60.0)
        .tick(Span::seconds(31));
    journal
        .reading("p", "s", HR, Span::seconds(70), 60.0)
        .reading("p", "other", HR, Span::seconds(70), 60.0);
    journal.ticks(71, 71).tick(Span::seconds(120)).tick(Span::seconds(301));
    let told = told(&journal);
    let coverage = |sensor: &str, size, start: i64| {
        let mut those = told.iter().filter(|w| w.sensor_id.as_str() == sensor && w.size == size);
        those
            .rfind(|w| w.start == START + Span::seconds(start))
            .and_then(|w| w.coverage)
    };
    assert_eq!(told[0].coverage, None);
    assert_eq!(coverage("s", WindowSize::Minute, 0), Some(1.0));
    assert_eq!(coverage("s", WindowSize::Minute, 60), Some(0.5));
    assert_eq!(coverage("s", WindowSize::FiveMinutes, 0), Some(0.3));
    assert_eq!(coverage("other", WindowSize::Minute, 60), None);
}

#[test]
fn late_data_is_accepted_for_seven_days_and_its_states_are_gone_a_day_later() {
    let mut journal = Journal::start();
    journal.reading("p", "s", HR, Span::seconds(1), 60.0).ticks(1, 1);
    journal.tick(Span::days(7));
    journal
        .reading("p", "s", HR, Span::seconds(2), 61.0)
        .tick(Span::seconds(7 * 86_400 + 1));
    journal
        .reading("p", "s", HR, Span::ZERO, 99.0)
        .tick(Span::seconds(7 * 86_400 + 40));
    journal
        .tick(Span::hours(217))
        .tick(Span::hours(218))
        .tick(Span::hours(220));
    let minutes = of(&told(&journal), WindowSize::Minute);
    assert_eq!(minutes.last(), Some(&(3, WindowStatus::Revised, 2)), "{minutes:?}");

    let shelf = crate::testing::MemoryShelf::default();
    let mut task = (crate::all()[0].restore)(crate::testing::fresh(shelf.clone())).unwrap();
    crate::testing::run(&mut *task, &shelf, &journal.records).unwrap();
    shelf.save(&task.checkpoint());
    for (key, versions) in shelf.versions() {
        assert_eq!(versions.last().unwrap().value, None, "{key}");
    }
}
