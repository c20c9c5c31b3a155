//! The topics of the house.

/// A topic. All have as many partitions as the journal, but `Control`, which has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Everything that happened in the world, in one order per patient.
    Journal,
    /// Windows, by the processor `windows`.
    Windows,
    /// Alerts, by the processor `alerts`.
    Alerts,
    /// Sensors as heard, by the processor `devices`.
    Devices,
    /// Consultations, by the processor `consultations`.
    Consultations,
    /// Who wears which sensor when, by the processor `assignments`.
    Assignments,
    /// Refused input.
    Rejected,
    /// Who read or changed what.
    Audit,
    /// Operators' decisions.
    Control,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 9] = [
        Self::Journal,
        Self::Windows,
        Self::Alerts,
        Self::Devices,
        Self::Consultations,
        Self::Assignments,
        Self::Rejected,
        Self::Audit,
        Self::Control,
    ];

    /// Its name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Journal => "fajma.journal",
            Self::Windows => "fajma.windows",
            Self::Alerts => "fajma.alerts",
            Self::Devices => "fajma.devices",
            Self::Consultations => "fajma.consultations",
            Self::Assignments => "fajma.assignments",
            Self::Rejected => "fajma.rejected",
            Self::Audit => "fajma.audit",
            Self::Control => "fajma.control",
        }
    }

    /// Whether a processor writes it.
    #[must_use]
    pub const fn is_derived(self) -> bool {
        matches!(
            self,
            Self::Windows | Self::Alerts | Self::Devices | Self::Consultations | Self::Assignments
        )
    }

    /// How many partitions it has where the journal has `journal`.
    #[must_use]
    pub const fn partitions(self, journal: u16) -> u16 {
        if matches!(self, Self::Control) { 1 } else { journal }
    }
}
