//! The push service of a test: a stand-in of the crate's, which refuses what Apple or Google
//! refuses.

use std::path::Path;
use std::time::Duration;

use rouse::standin::apns::{ApnsStandin, ApnsStandinConfig};
use rouse::standin::fcm::{FcmStandin, FcmStandinConfig};
use rouse::standin::push::AcceptedPush;
use serde_json::Value;

use super::handset::Handset;
use super::{eventually, home};

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    Apns,
    Fcm,
}

/// A running service.
pub(crate) struct Push {
    service: Service,
    /// `[[push.apns]]` or `[[push.fcm]]` for Rouse.
    pub(crate) table: String,
}

enum Service {
    Apns(Box<ApnsStandin>),
    Fcm(Box<FcmStandin>),
}

impl Push {
    /// Starts it.
    pub(crate) async fn start(provider: Provider) -> Self {
        let home = home::directory("push");
        match provider {
            Provider::Apns => {
                let apns = ApnsStandin::start(ApnsStandinConfig::default()).await;
                let apns = apns.expect("apns starts");
                let table = apns_table(&apns, &home);
                let service = Service::Apns(Box::new(apns));
                Self { service, table }
            }
            Provider::Fcm => {
                let fcm = FcmStandin::start(FcmStandinConfig::default()).await;
                let fcm = fcm.expect("fcm starts");
                let table = fcm_table(&fcm, &home);
                let service = Service::Fcm(Box::new(fcm));
                Self { service, table }
            }
        }
    }

    /// Returns the pushes of one kind (`call`, `cancel`) that it took for a handset.
    pub(crate) fn of(&self, handset: &Handset, event: &str) -> Vec<AcceptedPush> {
        let mut all = match &self.service {
            Service::Apns(apns) => apns.accepted(),
            Service::Fcm(fcm) => fcm.accepted(),
        };
        all.retain(|push| push.token == handset.token && field(push, "event") == event);
        all
    }

    /// Waits for the `number`-th push of this kind to the handset, from 1.
    pub(crate) async fn next(&self, handset: &Handset, event: &str, number: usize) -> AcceptedPush {
        let what = format!("push {number} of kind {event} to {}", handset.config.user);
        eventually(&what, Duration::from_secs(6), async || {
            self.of(handset, event).into_iter().nth(number - 1)
        })
        .await
    }

    /// Declares a handset's token dead, as when the app was removed.
    pub(crate) fn forget(&self, handset: &Handset) {
        match &self.service {
            // A time far ahead: after whatever REGISTER came last.
            Service::Apns(apns) => apns.unregister(&handset.token, 4_000_000_000_000),
            Service::Fcm(fcm) => fcm.unregister(&handset.token),
        }
    }
}

/// Returns a field of the payload, which each service wraps in its own way.
pub(crate) fn field<'p>(push: &'p AcceptedPush, name: &str) -> &'p str {
    let data = push.payload.pointer("/message/data");
    let data = data.unwrap_or(&push.payload);
    data.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn apns_table(apns: &ApnsStandin, home: &Path) -> String {
    let ca = apns.write_ca(home).expect("our directory can be written");
    let key = home.join("AuthKey.p8");
    home::write(&key, apns.p8_pem());
    format!(
        r#"
[[push.apns]]
name = "app"
team_id = "ABCDE12345"
key_id = "KEY1234567"
key_file = "{}"
topics = ["com.example.app"]
url = "{}"
ca_file = "{}"
"#,
        key.display(),
        apns.url(),
        ca.display(),
    )
}

fn fcm_table(fcm: &FcmStandin, home: &Path) -> String {
    let ca = fcm.write_ca(home).expect("our directory can be written");
    let account = home.join("fcm.json");
    home::write(&account, fcm.service_account());
    format!(
        r#"
[[push.fcm]]
project = "my-project"
service_account_file = "{}"
url = "{}"
ca_file = "{}"
"#,
        account.display(),
        fcm.url(),
        ca.display(),
    )
}
