//! What the cursors of lists tell whoever reads them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemas::access::Role;
use schemas::facts::AlertState;
use schemas::time::Span;

use crate::testing::{House, NOW};

/// A cursor as somebody curious would look at it: as it is, from hex, from base64.
fn read(cursor: &str) -> String {
    let digits = cursor.as_bytes().chunks(2).map_while(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let hex: Vec<u8> = digits.collect();
    let plain = URL_SAFE_NO_PAD.decode(cursor).unwrap_or_default();
    let [hex, plain] = [hex, plain].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    format!("{cursor} {hex} {plain}")
}

#[tokio::test]
async fn cursors_tell_nothing_of_rows_that_are_cut_out() {
    const ALL: usize = 80;
    let house = House::new().await;
    for n in 0..ALL {
        let of = if n % 40 == 20 { "p-own" } else { "p-secret" };
        let sensor = format!("{n}-{of}");
        house.reading(of, &sensor, 72.0, NOW).await;
        house.device(of, &sensor).await;
        house.alert(of, &sensor, AlertState::Open).await;
        house.consultation(of, &sensor).await;
    }
    house.processed().await;
    house.settled().await;
    let admin = house.token(Role::Admin, &[], Span::hours(1));
    for list in ["sensors", "alerts", "consultations"] {
        for role in [Role::Doctor, Role::Patient] {
            let token = house.token(role, &["p-own"], Span::hours(1));
            let (mut seen, mut pages, mut lengths, mut cursor) = (0, 0, Vec::new(), String::new());
            loop {
                let (status, page) = house.get(&format!("/v1/{list}?limit=1{cursor}"), &token).await;
                assert_eq!(status, 200, "{page}");
                for item in page[list].as_array().unwrap() {
                    assert_eq!(item["patient_id"], "p-own");
                    seen += 1;
                }
                pages += 1;
                let Some(next) = page["next_cursor"].as_str() else {
                    break;
                };
                assert!(!read(next).contains("secret"), "{list}: {}", read(next));
                lengths.push(next.len());
                cursor = format!("&cursor={next}");
            }
            // Nor does the number of pages count what lies between.
            assert!(seen == 2 && pages <= 3, "{list}: {seen} on {pages} pages");
            assert!(lengths.windows(2).all(|two| two[0] == two[1]), "{lengths:?}");
        }
        // Somebody who sees everything pages as before; a cursor is good for its own list, as it was given.
        let (mut seen, mut cursor) = (0, String::new());
        loop {
            let (_, page) = house.get(&format!("/v1/{list}?limit=33{cursor}"), &admin).await;
            seen += page[list].as_array().unwrap().len();
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            let other = if list == "alerts" { "sensors" } else { "alerts" };
            let (first, rest) = next.split_at(1);
            let altered = format!("{}{rest}", if first == "A" { "B" } else { "A" });
            for (path, cursor) in [(other, next), (list, &altered), (list, "6162")] {
                let (status, answer) = house.get(&format!("/v1/{path}?cursor={cursor}"), &admin).await;
                assert_eq!(
                    (status.as_u16(), &answer["field"]),
                    (400, &"cursor".into()),
                    "{path} {cursor}"
                );
            }
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, ALL, "{list}");
    }
}
