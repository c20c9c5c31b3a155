//! What a sensor is told to do, and what became of it. All in the sensor's own journal.

use smol_str::SmolStr;

use crate::avro::{record, symbols};
use crate::metric::Metric;
use crate::time::{Span, Timestamp};

symbols! {
    /// What a sensor is to do.
    pub enum CommandName {
        /// Calibrate itself; with an offset, what it measures from its answer on is judged with it.
        Calibrate = "calibrate",
        /// Measure so often.
        SetInterval = "set_interval",
        /// Show where it is: blink, beep.
        Identify = "identify",
    }
}

record! {
    /// Somebody gave a sensor a command.
    pub struct CommandIssued {
        /// The command.
        pub command_id: SmolStr,
        /// What it is to do.
        pub name: CommandName,
        /// `calibrate`: which metric.
        pub metric: Option<Metric>,
        /// `calibrate`: what is added to each value measured from the answer on, canonical unit.
        pub offset: Option<f64>,
        /// `set_interval`: how often it is to measure.
        pub every: Option<Span>,
        /// Unanswered by then it is given up.
        pub expires_at: Timestamp,
        /// Who gave it.
        pub by: SmolStr,
    }
}

record! {
    /// A command was handed to a sensor.
    pub struct CommandSent {
        /// The command.
        pub command_id: SmolStr,
        /// 1, 2, …
        pub attempt: i32,
    }
}

record! {
    /// A sensor answered a command.
    pub struct CommandAnswered {
        /// The command.
        pub command_id: SmolStr,
        /// It was done.
        pub confirmed: bool,
        /// What the sensor said.
        pub result: Option<SmolStr>,
    }
}

record! {
    /// A command was given up: nobody answered in time.
    pub struct CommandExpired {
        /// The command.
        pub command_id: SmolStr,
    }
}
