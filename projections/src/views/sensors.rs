//! `sensors`: each sensor as it was last heard.

use schemas::derived::Derived;
use schemas::facts::DeviceChanged;
use smol_str::SmolStr;

use super::{derived_version, shard};
use crate::store::Change;
use crate::view::Type::{Double, Int, Text, Time};
use crate::view::{APART, Cell, View, column};

/// One row per sensor and the patient it was heard with: each is owned by one partition of the journal, and a sensor
/// that moved from one patient to another is where it was heard last.
pub static SENSORS: View = View {
    name: "sensors",
    partition: &[column("shard", Int)],
    clustering: &[column("sensor_id", Text), column("subject", Text)],
    columns: &[
        column("last_heard", Time),
        column("liveness", Text),
        column("since", Time),
        column("state", Text),
        column("battery", Double),
        column("firmware", Text),
        column("rssi", Double),
        column("lat", Double),
        column("lng", Double),
        column("expected_every", Int),
    ],
    apart: APART,
    grows: false,
};

/// The newest in its partition wins.
pub(super) fn project(derived: &Derived, device: &DeviceChanged, out: &mut Vec<Change>) {
    let sensor = SmolStr::from(device.sensor_id.clone());
    out.push(Change {
        view: &SENSORS,
        key: vec![shard(&sensor), Cell::Text(sensor), Cell::Text(derived.key.text())],
        version: derived_version(&derived.origin),
        cells: Some(vec![
            Cell::Time(device.last_heard),
            device.liveness.as_str().into(),
            Cell::Time(device.since),
            device.state.map(|s| s.as_str()).into(),
            device.battery.into(),
            device.firmware.clone().into(),
            device.rssi.into(),
            device.lat.into(),
            device.lng.into(),
            device.expected_every.map(|s| s.0).into(),
        ]),
    });
}
