//! The push service of a test: a stand-in of the crate's, which refuses what Apple or Google
//! refuses.

use std::path::Path;
use std::time::Duration;

use rouse::io::pns::WallClock;
use rouse::standin::apns::{ApnsStandin, ApnsStandinConfig};
use rouse::standin::fcm::{FcmStandin, FcmStandinConfig};
use rouse::standin::push::AcceptedPush;
use rouse::standin::webhook::WebhookStandin;
use rouse::standin::webpush::WebPushStandin;
use serde_json::Value;

use super::handset::Handset;
use super::{eventually, home};

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    Apns,
    Fcm,
    /// A browser's.
    WebPush,
    /// An operator's own.
    Webhook,
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
    WebPush(Box<WebPushStandin>),
    Webhook(Box<WebhookStandin>),
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
            Provider::WebPush => {
                let browser = WebPushStandin::start(WallClock::system()).await;
                let browser = browser.expect("web push starts");
                let table = web_push_table(&browser, &home);
                let service = Service::WebPush(Box::new(browser));
                Self { service, table }
            }
            Provider::Webhook => {
                let own = WebhookStandin::start(true).await;
                let own = own.expect("the webhook starts");
                let table = webhook_table(&own, &home);
                let service = Service::Webhook(Box::new(own));
                Self { service, table }
            }
        }
    }

    /// What an app gets from it: its token, and what it puts into its Contact.
    pub(crate) fn address(&self, number: u32) -> (String, String) {
        match &self.service {
            Service::Apns(_) => {
                let token = format!("{:064x}", 0xfeed_0000 + number);
                let push =
                    format!("pn-provider=apns;pn-param=ABCDE12345.com.example.app;pn-prid={token}");
                (token, push)
            }
            Service::Fcm(_) => {
                let token = format!("dev{number}:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx_{number}");
                let push = format!("pn-provider=fcm;pn-param=my-project;pn-prid={token}");
                (token, push)
            }
            Service::WebPush(browser) => {
                let subscription = browser.subscribe().expect("the browser subscribes");
                (subscription.endpoint.clone(), subscription.params())
            }
            Service::Webhook(_) => {
                let token = format!("IQAAAA{number}");
                let push = format!("pn-provider=hms;pn-param=1055;pn-prid={token}");
                (token, push)
            }
        }
    }

    /// Returns the pushes of one kind (`call`, `cancel`) that it took for a handset.
    pub(crate) fn of(&self, handset: &Handset, event: &str) -> Vec<AcceptedPush> {
        let mut all = match &self.service {
            Service::Apns(apns) => apns.accepted(),
            Service::Fcm(fcm) => fcm.accepted(),
            Service::WebPush(browser) => browser.accepted(),
            Service::Webhook(own) => own.accepted(),
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
            Service::WebPush(browser) => browser.unsubscribe(&handset.token),
            Service::Webhook(own) => own.unregister(&handset.token),
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

fn web_push_table(browser: &WebPushStandin, home: &Path) -> String {
    let ca = browser
        .write_ca(home)
        .expect("our directory can be written");
    let key = home.join("vapid.pem");
    home::write(&key, &browser.vapid_pem());
    format!(
        r#"
[[push.webpush]]
key_file = "{}"
subject = "mailto:ops@example.com"
hosts = ["{}"]
private_networks = ["127.0.0.0/8"]
ca_file = "{}"
"#,
        key.display(),
        browser.addr(),
        ca.display(),
    )
}

fn webhook_table(own: &WebhookStandin, home: &Path) -> String {
    let ca = own.write_ca(home).expect("our directory can be written");
    let (bearer, hmac) = (home.join("bearer"), home.join("hmac"));
    home::write(&bearer, own.bearer());
    home::write(&hmac, own.signing_key());
    format!(
        r#"
[[push.webhook]]
name = "own"
providers = ["hms"]
url = "{}"
bearer_file = "{}"
hmac_file = "{}"
ca_file = "{}"
"#,
        own.url(),
        bearer.display(),
        hmac.display(),
        ca.display(),
    )
}
