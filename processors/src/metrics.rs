//! Names of what is counted here.

/// Facts that reached a task and were not applied, by processor and reason (`repeat`, `old`).
pub const NOT_APPLIED: &str = "fajma_processor_not_applied_total";
/// Journal records handled, by processor.
pub const HANDLED: &str = "fajma_processor_records_total";
/// Conclusions written, by processor.
pub const WRITTEN: &str = "fajma_processor_outputs_total";
/// Checkpoints written, by processor.
pub const CHECKPOINTS: &str = "fajma_processor_checkpoints_total";
/// Places given up after an error of the log, by processor.
pub const RETRIES: &str = "fajma_processor_retries_total";
/// Partitions stopped by a record, now, by processor.
pub const STOPPED: &str = "fajma_processor_stopped";
/// Journal records between what was recorded and what was handled, by processor and partition.
pub const LAG: &str = "fajma_processor_lag_records";
/// Bytes of states in memory, estimated, by processor and partition.
pub const RESIDENT: &str = "fajma_processor_state_bytes";
/// Ticks not given because our clock and the log's are apart.
pub const TICKS_REFUSED: &str = "fajma_processor_ticks_refused_total";
