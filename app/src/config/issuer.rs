//! Whose tokens are good beside our own.

use api::token::Terms;
use schemas::access::Role;
use serde::Deserialize;

use super::Time;
use crate::failure::Failure;

/// See `default.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The `iss` of its tokens; empty for nobody's.
    pub name: String,
    /// The `aud` of tokens for us.
    pub audience: String,
    /// Where its keys are.
    pub jwks: String,
    /// How often they are read again.
    pub refresh: Time,
    /// Who.
    pub subject_claim: String,
    /// As what.
    pub role_claim: String,
    /// What its words mean.
    pub roles: String,
    /// Patients.
    pub patients_claim: String,
    /// Sensors.
    pub sensors_claim: String,
}

impl Issuer {
    /// What its tokens mean; nothing where there is none.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] naming the option at fault.
    pub fn terms(&self) -> Result<Option<Terms>, Failure> {
        if self.name.is_empty() {
            return Ok(None);
        }
        let wrong = |what: String| Err(Failure::WrongUse(what));
        for (option, value) in [
            ("audience", &self.audience),
            ("jwks", &self.jwks),
            ("role_claim", &self.role_claim),
        ] {
            if value.is_empty() {
                return wrong(format!("issuer.{option} is needed where issuer.name is given"));
            }
        }
        let mut roles = Vec::new();
        for pair in self.roles.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let parsed = pair.split_once('=').and_then(|(word, role)| {
                let role = Role::parse(role.trim())?;
                Some((word.trim().to_owned(), role)).filter(|(word, _)| !word.is_empty())
            });
            match parsed {
                Some(meaning) => roles.push(meaning),
                None => return wrong(format!("issuer.roles: {pair:?} is not word=role, with a role of ours")),
            }
        }
        Ok(Some(Terms {
            name: self.name.clone(),
            audience: self.audience.clone(),
            subject_claim: self.subject_claim.clone(),
            role_claim: self.role_claim.clone(),
            roles,
            patients_claim: self.patients_claim.clone(),
            sensors_claim: self.sensors_claim.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn terms(changes: &[(&'static str, &str)]) -> Result<Option<Terms>, Failure> {
        let flags = changes.iter().map(|(name, value)| (*name, (*value).to_owned(), "test"));
        let config = Config::load(Sources {
            flags: flags.collect(),
            ..Sources::default()
        });
        config.unwrap().issuer.terms()
    }

    #[test]
    fn an_issuer_needs_keys_and_roles_that_are_ours() {
        assert!(matches!(terms(&[]), Ok(None)));
        let given = [("issuer.name", "https://x"), ("issuer.jwks", "keys.json")];
        let read = terms(&[given[0], given[1], ("issuer.roles", "physician=doctor, nurse = doctor")]);
        let roles = read.unwrap().unwrap().roles;
        assert_eq!(
            roles,
            [
                ("physician".to_owned(), Role::Doctor),
                ("nurse".to_owned(), Role::Doctor)
            ]
        );
        for wrong in [
            &given[..1],
            &[given[0], given[1], ("issuer.roles", "physician")],
            &[given[0], given[1], ("issuer.roles", "physician=boss")],
            &[given[0], given[1], ("issuer.audience", "")],
        ] {
            assert!(matches!(terms(wrong), Err(Failure::WrongUse(_))), "{wrong:?}");
        }
    }
}
