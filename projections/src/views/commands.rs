//! `commands`: what each sensor was told to do, and what became of it, a row for each thing that happened.

use schemas::facts::{CommandAnswered, CommandIssued};
use schemas::ids::{Key, SensorId};
use schemas::journal::{Fact, Recorded};
use smol_str::SmolStr;

use super::{owned, shard};
use crate::store::Change;
use crate::view::Type::{Bool, Double, Int, Text, Time};
use crate::view::{APART, Cell, View, column};

/// Of each command one row of each kind: the newest time it was sent, the first answer, in the order of the sensor's journal.
pub static COMMANDS: View = View {
    name: "commands",
    partition: &[column("shard", Int)],
    clustering: &[
        column("sensor_id", Text),
        column("command_id", Text),
        column("happened", Text),
    ],
    columns: &[
        column("at", Time),
        column("name", Text),
        column("metric", Text),
        column("offset_by", Double),
        column("every", Int),
        column("expires_at", Time),
        column("issued_by", Text),
        column("attempt", Int),
        column("confirmed", Bool),
        column("result", Text),
    ],
    apart: APART,
    grows: false,
};

/// Kinds of rows.
pub const ISSUED: &str = "issued";
/// It was handed to the sensor.
pub const SENT: &str = "sent";
/// The sensor answered.
pub const ANSWERED: &str = "answered";
/// It was given up.
pub const EXPIRED: &str = "expired";

/// A row for what happened.
pub fn project(fact: &Recorded, out: &mut Vec<Change>) {
    let Key::Sensor(sensor) = &fact.envelope.key else {
        return;
    };
    let newest = owned(fact.offset, 0);
    match &fact.envelope.fact {
        Fact::CommandIssued(it) => put(sensor, &it.command_id, ISSUED, newest, issued(fact, it), out),
        Fact::CommandSent(it) => {
            let cells = cells(fact, |cells| cells[7] = Cell::Int(it.attempt.into()));
            put(sensor, &it.command_id, SENT, newest, cells, out);
        }
        // What was answered first stands.
        Fact::CommandAnswered(it) => put(sensor, &it.command_id, ANSWERED, -newest, answered(fact, it), out),
        Fact::CommandExpired(it) => put(sensor, &it.command_id, EXPIRED, -newest, cells(fact, |_| {}), out),
        _ => {}
    }
}

fn issued(fact: &Recorded, it: &CommandIssued) -> Vec<Cell> {
    cells(fact, |cells| {
        cells[1] = it.name.as_str().into();
        cells[2] = it.metric.map(|metric| metric.as_str()).into();
        cells[3] = it.offset.into();
        cells[4] = it.every.map(|every| every.0).into();
        cells[5] = Cell::Time(it.expires_at);
        cells[6] = Cell::Text(it.by.clone());
    })
}

fn answered(fact: &Recorded, it: &CommandAnswered) -> Vec<Cell> {
    cells(fact, |cells| {
        cells[8] = Cell::Bool(it.confirmed);
        cells[9] = it.result.clone().into();
    })
}

fn cells(fact: &Recorded, fill: impl FnOnce(&mut [Cell; 10])) -> Vec<Cell> {
    let mut cells = [const { Cell::Null }; 10];
    cells[0] = Cell::Time(fact.envelope.measured_at);
    fill(&mut cells);
    cells.into()
}

fn put(
    sensor: &SensorId,
    command: &SmolStr,
    happened: &'static str,
    version: i64,
    cells: Vec<Cell>,
    out: &mut Vec<Change>,
) {
    let sensor = SmolStr::from(sensor.clone());
    out.push(Change {
        view: &COMMANDS,
        key: vec![
            shard(&sensor),
            Cell::Text(sensor),
            Cell::Text(command.clone()),
            happened.into(),
        ],
        version,
        cells: Some(cells),
    });
}
