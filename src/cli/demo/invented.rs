//! `rouse demo --serve`: a gateway with invented traffic, for whoever wants to look at it. It is
//! played until Ctrl-C by stand-ins; no number and no token in it is anybody's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::RngExt as _;
use tokio::time::sleep;

use super::stage::{
    ASTERISK, DOMAIN, Folder, PASSWORD, PHONE, SERVER_NAME, read_config, write_certificate,
};
use crate::cli::output;
use crate::config::AdminConfig;
use crate::proto::Transport;
use crate::server::Running;
use crate::standin::apns::{ApnsStandin, ApnsStandinConfig};
use crate::standin::asterisk::{Asterisk, AsteriskConfig};
use crate::standin::fcm::{FcmStandin, FcmStandinConfig};
use crate::standin::phone::{Phone, PhoneConfig};
use crate::standin::push::{Act, Outcome};
use crate::standin::timeline::Timeline;

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(1500);
/// How long those who talk do so.
const CHAT: Duration = Duration::from_secs(4);

/// How an agent's phone behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Sleeps, and wakes when it is pushed.
    Wakes,
    /// Stays connected.
    Awake,
    /// Stays connected, and declines.
    Busy,
    /// Sleeps, and the push does not reach it.
    Lost,
    /// Sleeps, and its app was removed: its token is dead.
    Removed,
    /// Sleeps and wakes, but its callers do not wait for that.
    Impatient,
}

/// Who there is: the number, and how the phone behaves.
const AGENTS: [(&str, Habit, bool); 8] = [
    ("1001", Habit::Wakes, false),
    ("1002", Habit::Awake, false),
    ("1003", Habit::Wakes, true),
    ("1004", Habit::Busy, false),
    ("1005", Habit::Lost, true),
    ("1006", Habit::Impatient, false),
    ("1007", Habit::Removed, false),
    ("1008", Habit::Awake, true),
];

/// Everybody.
struct Theatre {
    gateway: Running,
    asterisk: Asterisk,
    apns: ApnsStandin,
    fcm: FcmStandin,
    /// Where phones register.
    phones: SocketAddr,
    _folder: Folder,
}

/// Plays until Ctrl-C.
pub(super) async fn serve(admin: SocketAddr) -> anyhow::Result<()> {
    let theatre = Arc::new(Theatre::open(admin).await?);
    let address = theatre.gateway.admin_address().unwrap_or(admin);
    output::line(format!(
        "look at http://{address}/ (no token is needed), or ask:"
    ));
    for command in ["calls", "devices", "top", "trace --agent 1001"] {
        output::line(format!("  rouse {command} --admin http://{address}"));
    }
    output::line("Ctrl-C ends it");
    for (number, (agent, habit, is_android)) in (1..).zip(AGENTS) {
        let config = theatre.phone(agent, number, is_android);
        tokio::spawn(live(config, habit));
    }
    let listeners = [
        tokio::spawn(wake_iphones(Arc::clone(&theatre))),
        tokio::spawn(wake_androids(Arc::clone(&theatre))),
    ];
    let calling = tokio::spawn(call_for_ever(Arc::clone(&theatre)));
    let ended = tokio::signal::ctrl_c()
        .await
        .context("cannot listen to signals");
    calling.abort();
    for listener in listeners {
        listener.abort();
    }
    ended
}

impl Theatre {
    async fn open(admin: SocketAddr) -> anyhow::Result<Self> {
        let folder = Folder::new().context("cannot make a temporary folder")?;
        let users: Vec<(&str, &str)> = AGENTS.iter().map(|(user, ..)| (*user, PASSWORD)).collect();
        let mut asterisk = AsteriskConfig::new(ASTERISK, &users);
        asterisk.qualify = false;
        let asterisk = Asterisk::start(asterisk, Timeline::new())
            .await
            .context("cannot start the stand-in Asterisk")?;
        let apns = ApnsStandin::start(ApnsStandinConfig::default())
            .await
            .context("cannot start the stand-in APNs")?;
        let fcm = FcmStandin::start(FcmStandinConfig::default())
            .await
            .context("cannot start the stand-in FCM")?;
        write_certificate(folder.path()).context("cannot make a certificate")?;
        let mut config = read_config(folder.path(), Transport::Tcp, asterisk.address())?;
        config.push.apns = vec![apns.client_config(folder.path())?];
        config.push.fcm = vec![fcm.client_config(folder.path())?];
        config.settings.push = config.push.settings();
        config.settings.wake.timeout = Duration::from_secs(6);
        config.admin = Some(AdminConfig {
            address: admin,
            token: None,
            tls: None,
        });
        let gateway = crate::server::start(config)
            .await
            .context("cannot start the gateway")?;
        let phones = gateway.addresses().last().copied();
        Ok(Self {
            phones: phones.context("the gateway does not listen")?,
            gateway,
            asterisk,
            apns,
            fcm,
            _folder: folder,
        })
    }

    fn phone(&self, agent: &str, number: u8, is_android: bool) -> PhoneConfig {
        let token = token(number, is_android);
        let push = if is_android {
            format!("pn-provider=fcm;pn-param=my-project;pn-prid={token}")
        } else {
            format!(
                "pn-provider=apns;pn-param=ABCDE12345.com.example.app.voip;pn-prid={token}:voip"
            )
        };
        PhoneConfig {
            transport: Transport::Tcp,
            local_ip: PHONE,
            server_name: SERVER_NAME.to_owned(),
            push: Some(push),
            instance: Some(format!(
                "urn:uuid:7ad6e0ee-5a5c-4b6c-9f0b-3a5f0c0e20{number:02x}"
            )),
            reg_id: Some(1),
            ..PhoneConfig::new(agent, DOMAIN, PASSWORD, self.phones)
        }
    }

    /// The phone that a token wakes.
    fn woken_by(&self, shown: &str) -> Option<PhoneConfig> {
        (1..)
            .zip(AGENTS)
            .find_map(|(number, (agent, habit, is_android))| {
                let is_it = token(number, is_android) == shown;
                let wakes = matches!(habit, Habit::Wakes | Habit::Impatient);
                (is_it && wakes).then(|| self.phone(agent, number, is_android))
            })
    }
}

fn token(number: u8, is_android: bool) -> String {
    if is_android {
        format!("dQw4w9WgXcQ{number}:APA91bHPRgkF3JUikC4ENAHEeMrd41Zxv3hVZjC9KtT8OvPVGJ")
    } else {
        format!("{number:02x}").repeat(32)
    }
}

/// A phone's life from its start: it registers, and sleeps if that is its habit.
async fn live(config: PhoneConfig, habit: Habit) {
    let Ok(mut phone) = registered(config).await else {
        return;
    };
    match habit {
        Habit::Wakes | Habit::Impatient | Habit::Lost | Habit::Removed => phone.sleep(),
        Habit::Awake | Habit::Busy => loop {
            // Nobody calls for a while: it listens on.
            let Ok(mut call) = phone.next_call_within(Duration::from_secs(3600)).await else {
                continue;
            };
            if call.ring().await.is_err() {
                continue;
            }
            sleep(between(400, 1500)).await;
            let is_done = if habit == Habit::Busy {
                call.reject(486).await.is_ok()
            } else {
                call.answer().await.is_ok()
            };
            if is_done && habit == Habit::Awake {
                sleep(CHAT).await;
                // dropped: the caller may have hung up at the same time.
                call.hangup().await.ok();
            }
        },
    }
}

/// A time that is not always the same.
fn between(least_ms: u64, most_ms: u64) -> Duration {
    Duration::from_millis(rand::rng().random_range(least_ms..most_ms))
}

async fn registered(config: PhoneConfig) -> anyhow::Result<Phone> {
    let mut phone = Phone::wake(config, Timeline::new()).await?;
    phone.register().await?;
    Ok(phone)
}

async fn wake_iphones(theatre: Arc<Theatre>) {
    // The app of 1007 was removed from its phone.
    let removed = token(7, false);
    let outcome = Outcome::from(Act::refuse(410, "Unregistered"));
    theatre.apns.always(Some(&removed), Some(outcome));
    loop {
        let push = theatre.apns.next_push().await;
        if let Some(config) = theatre.woken_by(&push.token) {
            tokio::spawn(be_woken(config));
        }
    }
}

async fn wake_androids(theatre: Arc<Theatre>) {
    loop {
        let push = theatre.fcm.next_push().await;
        if let Some(config) = theatre.woken_by(&push.token) {
            tokio::spawn(be_woken(config));
        }
    }
}

/// A phone's life from a push on: it registers, rings, answers, talks, sleeps.
async fn be_woken(config: PhoneConfig) {
    sleep(between(700, 3000)).await;
    let Ok(mut phone) = registered(config).await else {
        return;
    };
    if let Ok(mut call) = phone.next_call_within(Duration::from_secs(5)).await
        && call.ring().await.is_ok()
    {
        sleep(between(500, 2000)).await;
        if call.answer().await.is_ok() {
            sleep(CHAT).await;
            // dropped: the caller may have hung up at the same time.
            call.hangup().await.ok();
        }
    }
    phone.sleep();
}

async fn call_for_ever(theatre: Arc<Theatre>) {
    // The phones have registered by the time of the first call, or are called in vain.
    loop {
        for (agent, habit, _) in AGENTS {
            sleep(PAUSE).await;
            // The one whose app was removed is not registered any more after its first call.
            tokio::spawn(call(Arc::clone(&theatre), agent, habit));
        }
    }
}

async fn call(theatre: Arc<Theatre>, agent: &'static str, habit: Habit) {
    let caller = format!("20{:02}", rand::rng().random_range(0..100));
    let Ok(mut call) = theatre.asterisk.call(agent, &caller).await else {
        return;
    };
    if habit == Habit::Impatient {
        sleep(Duration::from_millis(600)).await;
        // dropped: it may have been answered just then.
        call.cancel(&[]).await.ok();
        return;
    }
    call.within(Duration::from_secs(20));
    if call.wait_answer().await.is_ok() {
        call.within(CHAT * 3);
        // dropped: a phone that does not hang up has been forgotten by then.
        call.wait_bye().await.ok();
    }
}
