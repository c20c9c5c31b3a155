//! What the house itself records: ticks of the clock, policy, activations, sealed facts.

use bytes::Bytes;
use smol_str::SmolStr;

use crate::avro::{record, symbols};
use crate::policy::Policy;

symbols! {
    /// Who ticked.
    pub enum TickedBy {
        /// A running door. Silence of sensors is counted on these alone.
        Ingest = "ingest",
        /// A partition's processor.
        Process = "process",
    }
}

record! {
    /// Recorded time moved on; the moment is the envelope's `measured_at`.
    pub struct ClockTicked {
        /// Who ticked.
        pub by: TickedBy,
    }
}

record! {
    /// What processors go by from here on.
    pub struct PolicyChanged {
        /// The whole policy.
        pub policy: Policy,
        /// Who changed it.
        pub by: SmolStr,
    }
}

record! {
    /// From here on this version of a processor speaks for its topic.
    pub struct ProcessorActivated {
        /// The processor's name.
        pub name: SmolStr,
        /// Its version.
        pub version: u16,
    }
}

record! {
    /// A fact that only the holder of a key can read. Reserved: written and opened by a later version.
    pub struct Sealed {
        /// Which key opens it.
        pub key_id: SmolStr,
        /// The schema of what is inside.
        pub inner_schema: i32,
        /// AES-256-GCM-SIV; the nonce follows from the fact's id.
        pub ciphertext: Bytes,
    }
}
