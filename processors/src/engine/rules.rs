//! The rules that a task keeps, each of which a simulation takes out to show that it is needed (feature `conformance`;
//! without it all are in place and asking costs nothing).

/// A rule of DESIGN §3 and §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A key skips what its restored state has already applied.
    SkipApplied,
    /// An origin is (offset, key, n), not (offset, count of outputs).
    KeyInOrigin,
    /// A fact is new at the first offset that carried it, not where it is not known yet.
    FirstOffset,
    /// A repeat changes nothing.
    Dedupe,
    /// Recorded time and policy belong to the position, and are restored with it.
    ContextWithPosition,
    /// Keys woken by one record act in byte order.
    ByteOrder,
    /// A version says nothing before its activation.
    EmitOnlyWhenActive,
    /// A version stops at the activation of a newer one.
    StopAtNewer,
    /// Silence is counted on ticks of doors only.
    SilenceOnIngest,
    /// Silence starts anew after doors were down.
    SilenceAnew,
    /// Recorded time is the greatest accepted tick; one that is too far ahead is not accepted.
    TickSkew,
    /// Late data is judged by what was in force when it was measured.
    InForceWhenMeasured,
    /// Each sensor has its own clock, not one for all of a patient's.
    OwnClocks,
    /// What was too old once stays so when lateness is raised.
    HorizonStays,
    /// States are saved before recorded time jumps, so that a replay finds every bucket that it needs.
    CheckpointBeforeJump,
    /// What a sensor measures is the patient's who wore it then.
    WhoWoreIt,
    /// Buckets are dropped only when nothing that waits in them is unsaid and no replay goes back to them.
    DropLate,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::SkipApplied,
        Self::KeyInOrigin,
        Self::FirstOffset,
        Self::Dedupe,
        Self::ContextWithPosition,
        Self::ByteOrder,
        Self::EmitOnlyWhenActive,
        Self::StopAtNewer,
        Self::SilenceOnIngest,
        Self::SilenceAnew,
        Self::TickSkew,
        Self::InForceWhenMeasured,
        Self::OwnClocks,
        Self::HorizonStays,
        Self::CheckpointBeforeJump,
        Self::WhoWoreIt,
        Self::DropLate,
    ];

    /// Whether it is taken out, in this thread.
    #[cfg(feature = "conformance")]
    #[must_use]
    pub fn is_out(self) -> bool {
        OUT.get() == Some(self)
    }

    /// Whether it is taken out: never.
    #[cfg(not(feature = "conformance"))]
    #[must_use]
    pub const fn is_out(self) -> bool {
        let _ = self;
        false
    }
}

#[cfg(feature = "conformance")]
thread_local! {
    static OUT: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Takes a rule out of every task of this thread; `None` puts all in place.
#[cfg(feature = "conformance")]
pub fn take_out(rule: Option<Rule>) {
    OUT.set(rule);
}
