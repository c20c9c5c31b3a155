//! Schemas told beside the journal, so that builds that came before them can read what bears them.

use smol_str::SmolStr;

use crate::avro::record;
use crate::time::Timestamp;

record! {
    /// A schema that records of this log bear, told before the first of them. In `fajma.control`.
    pub struct SchemaRecorded {
        /// Our own id of it: the same in every log, for ever.
        pub schema_id: i32,
        /// The schema, as JSON.
        pub text: SmolStr,
        /// A registry that has it.
        pub registry: Option<SmolStr>,
        /// The id it has there, which stands in the framing.
        pub registry_id: Option<i32>,
        /// When it was told.
        pub at: Timestamp,
    }
}
