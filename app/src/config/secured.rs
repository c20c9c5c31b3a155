//! The options by which TLS towards others is described, wherever they stand: `tls`, `tls_ca`, `tls_certificate`, `tls_key`.

use std::path::{Path, PathBuf};

/// What the options of one room say.
pub(super) struct Files<'a> {
    /// The room.
    pub(super) room: &'static str,
    pub(super) tls: bool,
    pub(super) ca: &'a Path,
    pub(super) certificate: &'a Path,
    pub(super) key: &'a Path,
}

/// Who signs the others' certificates, and our own with its key.
pub(super) type Believed = (Option<PathBuf>, Option<(PathBuf, PathBuf)>);

/// The file that an option names.
pub(super) fn given(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

impl Files<'_> {
    /// What they mean together; nothing without TLS.
    ///
    /// # Errors
    /// Which option is missing, or stands there for nothing.
    pub(super) fn read(&self) -> Result<Option<Believed>, String> {
        let room = self.room;
        if !self.tls {
            let files = [
                ("tls_ca", self.ca),
                ("tls_certificate", self.certificate),
                ("tls_key", self.key),
            ];
            return match files.iter().find(|(_, path)| given(path).is_some()) {
                Some((option, _)) => Err(format!("{room}.{option} is for {room}.tls = true")),
                None => Ok(None),
            };
        }
        let own = match (given(self.certificate), given(self.key)) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => {
                return Err(format!(
                    "{room}.tls_certificate and {room}.tls_key are given both or neither"
                ));
            }
        };
        Ok(Some((given(self.ca), own)))
    }
}
