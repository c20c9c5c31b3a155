//! Consultations on their way out.

use super::client::{Client, Connect, Packet, subscribe};
use super::house::House;

fn told(packet: &Packet) -> (String, i64) {
    let text = String::from_utf8_lossy(&packet.1).into_owned();
    let json: serde_json::Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
    (
        json["consultation"].as_str().unwrap().to_owned(),
        json["n"].as_i64().unwrap(),
    )
}

async fn asking(house: &House, client: &str, token: &str, filter: &str) -> (Client, u8) {
    let (mut client, _) = house.enter(&Connect::new(5, client, token)).await;
    client.send(subscribe(5, 1, filter, 0)).await;
    let code = *client.next().await.unwrap().1.last().unwrap();
    (client, code)
}

#[tokio::test]
async fn who_may_see_the_patient_follows_a_consultation_frame_by_frame() {
    let house = House::new().await;
    let (mut doctor, code) = asking(&house, "d", "doctor", "fajma/consultation/7/realtime").await;
    assert_eq!(code, 0);
    for n in 1..=2 {
        assert_eq!(told(&doctor.next().await.unwrap()), ("7".to_owned(), n));
    }
}

#[tokio::test]
async fn another_patients_consultation_is_told_to_nobody_who_may_not_see_them() {
    let house = House::new().await;
    let (mut doctor, _) = asking(&house, "d", "doctor", "fajma/consultation/8/realtime").await;
    let (mut admin, code) = asking(&house, "a", "admin", "fajma/consultation/8/realtime").await;
    assert_eq!(code, 0);
    // What the administrator hears was offered to the doctor too, and before the next consultation's.
    assert_eq!(told(&admin.next().await.unwrap()).0, "8");
    doctor.send(subscribe(5, 2, "fajma/consultation/7/realtime", 0)).await;
    assert_eq!(doctor.next().await.map(|p| p.0), Some(0x90));
    assert_eq!(told(&doctor.next().await.unwrap()).0, "7");
}

#[tokio::test]
async fn consultations_are_followed_one_by_one_and_not_by_devices() {
    const NOT_AUTHORIZED: u8 = 0x87;
    let house = House::new().await;
    for (token, filter) in [
        ("doctor", "fajma/consultation/+/realtime"),
        ("device", "fajma/consultation/7/realtime"),
    ] {
        assert_eq!(
            asking(&house, token, token, filter).await.1,
            NOT_AUTHORIZED,
            "{token} {filter}"
        );
    }
}
