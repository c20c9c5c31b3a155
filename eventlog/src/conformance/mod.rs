//! What every home promises, as tests that try to break it.
//!
//! ```ignore
//! eventlog::conformance_suite!(embedded, MyHarness);
//! ```
//! makes a module of tests, one per promise. The crate that uses it needs tokio with `macros` and `rt`.

mod places;
mod records;
mod support;

pub use places::*;
pub use records::*;
pub use support::{Harness, Seen, appending, conclusion, everything, seen};

/// Makes a module of tests: every promise, kept by the home behind this [`Harness`].
#[macro_export]
macro_rules! conformance_suite {
    ($name:ident, $harness:ty) => {
        mod $name {
            use super::*;
            $crate::conformance_suite! { @each $harness =>
                what_is_appended_is_read_back_byte_for_byte
                order_in_a_partition_is_the_order_given
                appenders_at_once_keep_their_own_order
                what_was_acknowledged_is_there_after_a_crash
                what_was_read_is_there_after_a_crash
                where_a_batch_ended_can_be_gone_on_from
                waiting_ends_when_a_record_comes
                bounds_follow_the_records
                a_moment_leads_to_the_first_record_since
                the_end_is_empty_and_beyond_it_is_refused
                limits_hold_but_one_record_is_always_given
                a_record_too_large_is_refused_and_costs_nothing
                what_is_not_there_is_a_misuse
                the_layout_stays
                a_new_place_is_empty_at_the_start
                a_checkpoint_is_found_by_the_next_owner
                a_shelf_shows_the_last_checkpoint_of_its_owner
                a_removed_state_is_gone_for_the_next_owner
                a_new_version_goes_on_where_the_old_one_ended
                states_are_visited_in_key_order
                outputs_can_be_read_once_committed
                outputs_without_a_checkpoint_are_computed_again_and_seen_once
                repeats_are_seen_once
                a_late_owner_does_no_harm
                progress_only_grows_and_never_promises_too_much
                outputs_of_another_journal_or_out_of_order_are_refused
                a_position_beyond_the_journal_stops_loudly
                places_of_partitions_and_processors_are_apart
            }
        }
    };
    (@each $harness:ty => $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let mut harness = <$harness as $crate::conformance::Harness>::fresh().await;
                $crate::conformance::$promise(&mut harness).await;
            }
        )*
    };
}
