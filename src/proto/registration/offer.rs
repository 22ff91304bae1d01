//! What a REGISTER is offered in push services, and what it is refused for (RFC 8599 §5.4, §5.6.1);
//! and the push parameters of a device that names none but was entered in the configuration.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::proto::aor::Aor;
use crate::proto::push::Pns;
use crate::proto::push::params::{NoPush, PushParams};
use crate::proto::push::refresh::{PNSREG, SHORTEST};
use crate::proto::registration::relay::DeviceAsk;
use crate::proto::reject::Reject;
use crate::proto::settings::{Push, Settings, TooShort, UnsupportedPns};
use crate::proto::sip::{HeaderName, Message, NameAddr};

/// What a REGISTER is told about push services (`Feature-Caps`, RFC 6809).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Toward the upstream too: the device will be pushed.
    pub pushed: SmallVec<[Service; 1]>,
    /// To the device alone: it asked what there is (RFC 8599 §4.1.1).
    pub listed: SmallVec<[Service; 3]>,
    /// The device can refresh by itself if it is told when (`+sip.pnsreg`).
    pub wants_pnsreg: bool,
}

/// A push service as its `Feature-Caps` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `+sip.pns`.
    pub name: Box<str>,
    /// `+sip.vapid`, for the device alone (RFC 8599 §5.4).
    pub vapid: Option<Arc<str>>,
}

impl Offer {
    /// Decides whether a device is pushed, and what it is told; `least` is the time, in seconds,
    /// that the upstream is asked for at least.
    pub(super) fn consider(
        &mut self,
        device: &mut DeviceAsk,
        address: &NameAddr<'_>,
        settings: &Settings,
        is_nearer: bool,
        least: u32,
    ) -> Result<(), Reject> {
        if is_nearer {
            if device.push.is_ok() {
                device.push = Err(NoPush::NearerProxy);
            }
            return Ok(());
        }
        if let Ok(params) = &device.push
            && !settings.push.can_push(params.pns, &params.app)
        {
            device.push = Err(refusal(params, &settings.push));
        }
        let is_leaving = device.expires == 0;
        let rules = settings.register;
        match &device.push {
            Ok(_) if is_leaving => {}
            Ok(_) if device.expires.max(least) < SHORTEST => match rules.too_short {
                TooShort::Refuse => return Err(Reject::TooBrief),
                TooShort::Plain => device.push = Err(NoPush::TooShort),
            },
            Ok(params) => {
                let service = Service::of(provider(params), &settings.push);
                if !self.pushed.contains(&service) {
                    self.pushed.push(service);
                }
                self.wants_pnsreg |= address.params.get("+sip.pnsreg").is_some();
            }
            Err(NoPush::Query) => self.list(address, settings)?,
            Err(NoPush::ForbiddenHost | NoPush::NotConfigured | NoPush::UnknownProvider)
                if !is_leaving =>
            {
                rules.unsupported_pns.check()?;
            }
            Err(
                NoPush::Absent
                | NoPush::UnknownProvider
                | NoPush::BadToken
                | NoPush::BadParam
                | NoPush::NoAlertToken
                | NoPush::NotConfigured
                | NoPush::ForbiddenHost
                | NoPush::RateLimited
                | NoPush::NearerProxy
                | NoPush::TooShort,
            ) => {}
        }
        Ok(())
    }

    /// Answers a device that asks what there is: the service that it names, or all (RFC 8599
    /// §5.6.1.2).
    fn list(&mut self, address: &NameAddr<'_>, settings: &Settings) -> Result<(), Reject> {
        let uri = address.parse_uri().map_err(|_| Reject::Malformed)?;
        let provider = uri.params.value("pn-provider").unwrap_or_default();
        let name = std::str::from_utf8(provider).unwrap_or("?");
        let is_asked = |known: &str| name.is_empty() || known.eq_ignore_ascii_case(name);
        let before = self.listed.len();
        for known in settings.push.services().filter(|known| is_asked(known)) {
            let service = Service::of(known, &settings.push);
            if !self.listed.contains(&service) {
                self.listed.push(service);
            }
        }
        if self.listed.len() == before && !name.is_empty() {
            settings.register.unsupported_pns.check()?;
        }
        Ok(())
    }

    /// The Feature-Caps of the relayed REGISTER: one for each service (RFC 8599 §8).
    pub fn to_upstream(&self) -> impl Iterator<Item = String> + '_ {
        self.pushed.iter().map(Service::caps)
    }

    /// The Feature-Caps of the 2xx to the device. A registration too short to be refreshed by
    /// pushes promises none.
    pub fn to_device(&self, longest: u32, purr: Option<&str>) -> impl Iterator<Item = String> + '_ {
        let pushed = if longest >= SHORTEST {
            self.pushed.as_slice()
        } else {
            &[]
        };
        let pnsreg = if self.wants_pnsreg {
            format!(";+sip.pnsreg=\"{PNSREG}\"")
        } else {
            String::new()
        };
        // RFC 8599 §6.2.1: the newest one in every 2xx.
        let purr = purr.map_or_else(String::new, |purr| format!(";+sip.pnspurr=\"{purr}\""));
        let more = pnsreg + &purr;
        let pushed = pushed.iter();
        let pushed = pushed.map(move |service| service.caps_with_key() + &more);
        pushed.chain(self.listed.iter().map(Service::caps_with_key))
    }
}

impl UnsupportedPns {
    const fn check(self) -> Result<(), Reject> {
        match self {
            Self::Forward => Ok(()),
            Self::Refuse => Err(Reject::UnsupportedPns),
        }
    }
}

impl Service {
    fn of(name: &str, settings: &Push) -> Self {
        let is_web_push = Pns::of_provider(name) == Pns::WebPush;
        Self {
            name: name.into(),
            vapid: settings.vapid.clone().filter(|_| is_web_push),
        }
    }

    fn caps(&self) -> String {
        format!("*;+sip.pns=\"{}\"", self.name)
    }

    fn caps_with_key(&self) -> String {
        let mut caps = self.caps();
        if let Some(key) = &self.vapid {
            caps.push_str(&format!(";+sip.vapid=\"{key}\""));
        }
        caps
    }
}

/// The name of a device's service.
fn provider(params: &PushParams) -> &str {
    let named = Pns::NAMED.into_iter().find(|(pns, _)| *pns == params.pns);
    named.map_or(&params.app, |(_, name)| name)
}

/// Why a device with readable parameters is not pushed.
fn refusal(params: &PushParams, settings: &Push) -> NoPush {
    match params.pns {
        Pns::Apns | Pns::ApnsSandbox | Pns::Fcm => NoPush::NotConfigured,
        Pns::WebPush if settings.services().any(|name| name == "webpush") => NoPush::ForbiddenHost,
        Pns::WebPush => NoPush::NotConfigured,
        Pns::Webhook => NoPush::UnknownProvider,
    }
}

/// Gives a device that says nothing of pushes the parameters that were entered for it.
pub(super) fn configured(device: &mut DeviceAsk, aor: &Aor, request: &Message, settings: &Push) {
    if device.push != Err(NoPush::Absent) {
        return;
    }
    let agent = request.values(HeaderName::UserAgent).next();
    let agent = agent.map(|agent| String::from_utf8_lossy(agent).to_ascii_lowercase());
    let entered = settings.devices.iter().find(|entry| {
        entry.is_for(aor)
            && (entry.instance.is_none() || entry.instance == device.instance)
            && entry.user_agent.as_ref().is_none_or(|part| {
                let part = part.to_ascii_lowercase();
                agent.as_ref().is_some_and(|agent| agent.contains(&part))
            })
    });
    if let Some(entry) = entered {
        device.push = Ok(entry.params.clone());
        device.is_entered = true;
    }
}
