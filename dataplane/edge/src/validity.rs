//! How long certificates are valid: for the check, the log and the metrics.
//!
//! A certificate that has expired is used all the same, because the alternative is to serve nobody. It is
//! logged as an error.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adit_driver::pem;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

/// A certificate whose end is nearer is warned about.
const NOTICE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// When a certificate begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    not_before: ASN1Time,
    not_after: ASN1Time,
}

impl Validity {
    /// That of `certificate`, or why it cannot be read.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let validity = parsed.validity();
        Ok(Self {
            not_before: validity.not_before,
            not_after: validity.not_after,
        })
    }

    /// When it ends, as Unix time.
    pub(crate) fn not_after_unix(&self) -> i64 {
        self.not_after.timestamp()
    }

    /// Why it cannot be used at `now`.
    pub(crate) fn complaint(&self, now: SystemTime) -> Option<String> {
        let now = unix(now);
        if now >= self.not_after.timestamp() {
            return Some(format!("it has expired on {}", date(&self.not_after)));
        }
        (now < self.not_before.timestamp())
            .then(|| format!("it is not valid before {}", date(&self.not_before)))
    }

    /// Writes to the log what is wrong with it, or soon will be. `whom` does not accept it then.
    pub(crate) fn tell(&self, file: &str, whom: &'static str, now: SystemTime) {
        if let Some(complaint) = self.complaint(now) {
            tracing::error!(
                file,
                complaint,
                whom,
                "a certificate cannot be accepted; renew it"
            );
        } else if let Some(complaint) = self.complaint(now + NOTICE) {
            let not_after = date(&self.not_after);
            tracing::warn!(
                file,
                not_after,
                whom,
                "a certificate ends within a week; renew it"
            );
            tracing::debug!(complaint, "what it will be refused for");
        }
    }
}

/// That of the first certificate in a file, or why it cannot be read.
pub(crate) fn of_file(file: &std::path::Path) -> Result<Validity, String> {
    let chain = pem::certificates(file).map_err(|error| error.to_string())?;
    Validity::of(chain.first().expect("there is at least one certificate"))
}

fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Day and minute in UTC: `2026-01-31 08:05 UTC`.
fn date(time: &ASN1Time) -> String {
    let time = time.to_datetime();
    let (day, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02} UTC",
        day.year(),
        u8::from(day.month()),
        day.day(),
        clock.hour(),
        clock.minute()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn a_certificate_is_complained_about_outside_its_life_and_with_the_date() {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2030, 1, 31);
        params.not_after = rcgen::date_time_ymd(2031, 2, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let validity = Validity::of(made.der()).unwrap();
        let end = UNIX_EPOCH + Duration::from_secs(validity.not_after_unix() as u64);
        assert_eq!(validity.complaint(end - DAY), None);
        let told = validity.complaint(end).unwrap();
        assert_eq!(told, "it has expired on 2031-02-01 00:00 UTC");
        let told = validity.complaint(end - 400 * DAY).unwrap();
        assert_eq!(told, "it is not valid before 2030-01-31 00:00 UTC");
        assert!(Validity::of(&CertificateDer::from(vec![1, 2, 3])).is_err());
    }
}
