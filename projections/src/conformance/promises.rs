//! One promise each.

use std::ops::Bound;

use bytes::Bytes;
use eventlog::Topic;
use schemas::derived::Origin;
use schemas::ids::EventId;
use schemas::time::Timestamp;
use smol_str::SmolStr;

use super::{Site, VIEW, apply, cells, key, put, removal, said, says};
use crate::store::{Change, Progress, Scan, ViewError, ViewStore};
use crate::view::Cell;

/// A repeat changes nothing, in the same call or a later one.
pub async fn applying_twice_is_applying_once(site: &dyn Site) {
    let store = site.open().await;
    let changes = [
        put(key("a", 1, "s"), 5, 1),
        put(key("a", 2, "s"), 5, 2),
        put(key("a", 1, "s"), 5, 1),
    ];
    apply(&*store, &changes).await;
    let once = scan(&*store, part("a")).await;
    apply(&*store, &changes).await;
    assert_eq!(scan(&*store, part("a")).await, once);
    assert_eq!(once, [1, 2]);
}

/// Later, earlier, or in the same call.
pub async fn an_older_version_loses_whenever_it_comes(site: &dyn Site) {
    let store = site.open().await;
    apply(&*store, &[put(key("a", 1, "s"), 7, 70)]).await;
    apply(&*store, &[put(key("a", 1, "s"), 6, 99)]).await;
    assert_eq!(says(&*store, &key("a", 1, "s")).await, Some(70));
    apply(&*store, &[put(key("a", 1, "s"), 9, 90), put(key("a", 1, "s"), 8, 99)]).await;
    assert_eq!(says(&*store, &key("a", 1, "s")).await, Some(90));
    apply(&*store, &[put(key("b", 1, "s"), i64::MIN, 1)]).await;
    apply(&*store, &[put(key("b", 1, "s"), -3, 2)]).await;
    assert_eq!(says(&*store, &key("b", 1, "s")).await, Some(2));
}

/// Whichever comes first.
pub async fn of_equal_versions_the_greater_stays_and_a_removal_is_greatest(site: &dyn Site) {
    let store = site.open().await;
    let (one, two) = (put(key("a", 1, "s"), 5, 1), put(key("a", 1, "s"), 5, 2));
    apply(&*store, std::slice::from_ref(&one)).await;
    apply(&*store, std::slice::from_ref(&two)).await;
    apply(&*store, std::slice::from_ref(&one)).await;
    assert_eq!(says(&*store, &key("a", 1, "s")).await, Some(2));
    apply(&*store, &[removal(key("a", 1, "s"), 5)]).await;
    apply(&*store, &[two, one]).await;
    assert_eq!(says(&*store, &key("a", 1, "s")).await, None);
}

/// What is older than a removal does not bring the row back.
pub async fn a_removed_row_stays_removed_until_a_newer_version(site: &dyn Site) {
    let store = site.open().await;
    apply(&*store, &[removal(key("a", 1, "s"), 5), put(key("a", 2, "s"), 5, 2)]).await;
    apply(&*store, &[put(key("a", 1, "s"), 4, 4)]).await;
    assert_eq!(says(&*store, &key("a", 1, "s")).await, None);
    assert_eq!(scan(&*store, part("a").descending()).await, [2]);
    apply(&*store, &[put(key("a", 1, "s"), 6, 6)]).await;
    assert_eq!(says(&*store, &key("a", 1, "s")).await, Some(6));
    assert_eq!(scan(&*store, part("a")).await, [6, 2]);
}

/// Neighbouring partitions are not seen.
pub async fn rows_are_scanned_in_order_within_bounds(site: &dyn Site) {
    let store = site.open().await;
    let mut changes = Vec::new();
    for p in ["", "a", "a\0", "aa", "b"] {
        for at in [-300, -1, 0, 1, 2, 300] {
            changes.push(put(key(p, at, "s"), 1, at));
        }
    }
    apply(&*store, &changes).await;
    let (low, high) = (|| vec![time(-1)], || vec![time(2)]);
    for (from, to, rows) in [
        (Bound::Unbounded, Bound::Unbounded, &[-300, -1, 0, 1, 2, 300][..]),
        (Bound::Included(low()), Bound::Excluded(high()), &[-1, 0, 1]),
        (Bound::Excluded(low()), Bound::Included(high()), &[0, 1, 2]),
        (Bound::Unbounded, Bound::Excluded(low()), &[-300]),
        (Bound::Included(vec![time(301)]), Bound::Unbounded, &[]),
        (Bound::Included(high()), Bound::Excluded(low()), &[]),
    ] {
        let wanted = part("a").from(from).to(to);
        assert_eq!(scan(&*store, wanted.clone()).await, rows, "{wanted:?}");
        let backwards: Vec<i64> = rows.iter().rev().copied().collect();
        assert_eq!(
            scan(&*store, wanted.clone().descending()).await,
            backwards,
            "{wanted:?}"
        );
        let few = Scan {
            limit: 2,
            ..wanted.descending()
        };
        assert_eq!(scan(&*store, few).await, backwards[..backwards.len().min(2)]);
    }
    assert_eq!(scan(&*store, Scan { limit: 0, ..part("a") }).await, Vec::<i64>::new());
}

/// `Excluded` of a prefix leaves out what begins with it, `Included` takes it in.
pub async fn prefix_bounds_compare_as_tuples(site: &dyn Site) {
    let store = site.open().await;
    let rows = [(1, "x"), (2, ""), (2, "x"), (2, "y"), (3, "x")];
    let changes: Vec<Change> = rows
        .iter()
        .zip(0..)
        .map(|((at, s), n)| put(key("a", *at, s), 1, n))
        .collect();
    apply(&*store, &changes).await;
    let two = || vec![time(2)];
    let two_x = || vec![time(2), "x".into()];
    for (from, to, wanted) in [
        (Bound::Included(two()), Bound::Unbounded, &[1, 2, 3, 4][..]),
        (Bound::Excluded(two()), Bound::Unbounded, &[4]),
        (Bound::Unbounded, Bound::Included(two()), &[0, 1, 2, 3]),
        (Bound::Unbounded, Bound::Excluded(two()), &[0]),
        (Bound::Included(two_x()), Bound::Included(two_x()), &[2]),
        (Bound::Excluded(two_x()), Bound::Included(two()), &[3]),
    ] {
        let bounds = part("a").from(from).to(to);
        assert_eq!(scan(&*store, bounds.clone()).await, wanted, "{bounds:?}");
    }
}

/// Going on after the last row of a page neither repeats nor leaves out a row that was there.
pub async fn pages_are_stable_while_rows_are_written(site: &dyn Site) {
    let store = site.open().await;
    let first: Vec<Change> = (0..20).map(|n| put(key("a", 2 * n, "s"), 1, 2 * n)).collect();
    apply(&*store, &first).await;
    let (mut seen, mut to) = (Vec::new(), Bound::Unbounded);
    loop {
        let page = Scan {
            limit: 3,
            ..part("a").descending().to(to.clone())
        };
        let rows = store.scan(&VIEW, page).await.unwrap_or_else(|e| panic!("scan: {e}"));
        let Some(last) = rows.last() else { break };
        to = Bound::Excluded(last.key[2..].to_vec());
        seen.extend(rows.iter().map(said));
        // Newer rows come, and one that was shown is written again.
        let new = i64::try_from(seen.len()).unwrap_or(0) + 100;
        apply(
            &*store,
            &[put(key("a", new, "s"), 1, new), put(key("a", 38, "s"), 2, 38)],
        )
        .await;
    }
    assert_eq!(seen, (0..20).rev().map(|n| 2 * n).collect::<Vec<i64>>());
}

/// Extremes, NUL bytes, nothing at all.
pub async fn every_type_of_cell_reads_back(site: &dyn Site) {
    let store = site.open().await;
    let rows = [
        vec![Cell::Null, Cell::Null, Cell::Null, Cell::Null],
        vec![
            Cell::Double(f64::MIN_POSITIVE),
            Cell::Text(SmolStr::default()),
            Cell::Bool(false),
            Cell::Int(i64::MIN),
        ],
        vec![
            Cell::Double(-0.0),
            Cell::Text("é\0ö, a text longer than what fits inline".into()),
            Cell::Null,
            Cell::Int(-1),
        ],
        vec![
            Cell::Double(f64::INFINITY),
            Cell::Null,
            Cell::Bool(true),
            Cell::Int(i64::MAX),
        ],
    ];
    for (row, at) in rows.iter().zip([i64::MIN, -1, 0, i64::MAX]) {
        let key = vec![
            "p\0p".into(),
            Cell::Int(at),
            time(at),
            "".into(),
            Cell::Blob(Bytes::from_static(b"\0\0\xff")),
        ];
        let change = Change {
            view: &VIEW,
            key: key.clone(),
            version: at,
            cells: Some(row.clone()),
        };
        apply(&*store, &[change]).await;
        let read = store.get(&VIEW, &key).await.unwrap_or_else(|e| panic!("get: {e}"));
        let read = read.unwrap_or_else(|| panic!("the row at {at} is not there"));
        assert_eq!((read.key, &read.cells), (key, row));
    }
}

/// Progress with its origin, and the rows it stands for.
pub async fn rows_and_progress_are_there_after_opening_again(site: &dyn Site) {
    let origin = Origin {
        incarnation: EventId([7; 16]),
        offset: 41,
        key: SmolStr::new("k"),
        n: 2,
    };
    let at = |topic, next, last_origin| Progress {
        topic,
        partition: 3,
        incarnation: EventId([7; 16]),
        next,
        last_origin,
    };
    for round in 0..3 {
        let store = site.open().await;
        let journal = read_progress(&*store, Topic::Journal).await;
        assert_eq!(journal, (round > 0).then(|| at(Topic::Journal, round, None)));
        let rows = scan(&*store, part("a")).await;
        assert_eq!(rows, (0..round).collect::<Vec<i64>>());
        let progress = at(Topic::Journal, round + 1, None);
        store
            .apply(&[put(key("a", round, "s"), 1, round)], Some(&progress))
            .await
            .unwrap_or_else(|e| panic!("{e}"));
        let progress = at(Topic::Alerts, 10 * round, Some(origin.clone()));
        store
            .apply(&[], Some(&progress))
            .await
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(read_progress(&*store, Topic::Alerts).await, Some(progress));
        assert_eq!(read_progress(&*store, Topic::Windows).await, None);
    }
}

/// Too few, too many, of another type, null in a key: then neither the others nor progress are written.
pub async fn cells_that_do_not_fit_are_refused_and_change_nothing(site: &dyn Site) {
    let store = site.open().await;
    let good = key("a", 1, "s");
    let mut null = good.clone();
    null[3] = Cell::Null;
    let mut other = good.clone();
    other[1] = Cell::Bool(true);
    for bad in [
        Change {
            cells: Some(cells(1)[1..].to_vec()),
            ..put(good.clone(), 1, 1)
        },
        Change {
            cells: Some(vec![Cell::Int(1), Cell::Null, Cell::Null, Cell::Null]),
            ..put(good.clone(), 1, 1)
        },
        put(good[..4].to_vec(), 1, 1),
        put([good.clone(), vec![Cell::Int(1)]].concat(), 1, 1),
        put(null.clone(), 1, 1),
        put(other, 1, 1),
    ] {
        let progress = Progress {
            topic: Topic::Journal,
            partition: 0,
            incarnation: EventId([7; 16]),
            next: 9,
            last_origin: None,
        };
        let refused = store.apply(&[put(key("b", 1, "s"), 1, 1), bad], Some(&progress)).await;
        assert!(matches!(refused, Err(ViewError::Misfit(_))), "{refused:?}");
        assert_eq!(store.progress(Topic::Journal, 0).await.ok().flatten(), None);
    }
    assert!(matches!(store.get(&VIEW, &null).await, Err(ViewError::Misfit(_))));
    assert!(matches!(
        store.scan(&VIEW, Scan::of(vec!["a".into()], 1)).await,
        Err(ViewError::Misfit(_))
    ));
    let bound = Bound::Included(vec![Cell::Int(1)]);
    assert!(matches!(
        store.scan(&VIEW, part("a").from(bound)).await,
        Err(ViewError::Misfit(_))
    ));
}

fn time(at: i64) -> Cell {
    Cell::Time(Timestamp(at))
}

fn part(p: &'static str) -> Scan {
    Scan::of(vec![p.into(), Cell::Int(-1)], 1_000)
}

async fn scan(store: &dyn ViewStore, scan: Scan) -> Vec<i64> {
    let rows = store.scan(&VIEW, scan).await.unwrap_or_else(|e| panic!("scan: {e}"));
    rows.iter().map(said).collect()
}

async fn read_progress(store: &dyn ViewStore, topic: Topic) -> Option<Progress> {
    store
        .progress(topic, 3)
        .await
        .unwrap_or_else(|e| panic!("progress: {e}"))
}
