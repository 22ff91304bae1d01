//! What a REGISTER is offered in push services, and what it is refused for (RFC 8599 §5.4, §5.6.1).

use smallvec::SmallVec;

use crate::proto::push::Pns;
use crate::proto::push::params::NoPush;
use crate::proto::push::refresh::{PNSREG, SHORTEST};
use crate::proto::registration::relay::DeviceAsk;
use crate::proto::reject::Reject;
use crate::proto::settings::{Settings, TooShort, UnsupportedPns};
use crate::proto::sip::NameAddr;

/// What a REGISTER is told about push services (`Feature-Caps`, RFC 6809).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Toward the upstream too: the device will be pushed.
    pub pushed: SmallVec<[Pns; 1]>,
    /// To the device alone: it asked what there is (RFC 8599 §4.1.1).
    pub listed: SmallVec<[Pns; 3]>,
    /// The device can refresh by itself if it is told when (`+sip.pnsreg`).
    pub wants_pnsreg: bool,
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
            && !settings.can_push(params.pns, &params.app)
        {
            device.push = Err(NoPush::NotConfigured);
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
                if !self.pushed.contains(&params.pns) {
                    self.pushed.push(params.pns);
                }
                self.wants_pnsreg |= address.params.get("+sip.pnsreg").is_some();
            }
            Err(NoPush::Query) => self.list(address, settings)?,
            Err(NoPush::NotConfigured | NoPush::UnknownProvider) if !is_leaving => {
                rules.unsupported_pns.check()?;
            }
            Err(
                NoPush::Absent
                | NoPush::UnknownProvider
                | NoPush::BadToken
                | NoPush::BadParam
                | NoPush::NoAlertToken
                | NoPush::NotConfigured
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
        let is_asked = |pns: Pns| name.is_empty() || Pns::from_provider(name) == Some(pns);
        let before = self.listed.len();
        for pns in Pns::ALL {
            if settings.has_service(pns) && is_asked(pns) && !self.listed.contains(&pns) {
                self.listed.push(pns);
            }
        }
        if self.listed.len() == before && !name.is_empty() {
            settings.register.unsupported_pns.check()?;
        }
        Ok(())
    }

    /// The Feature-Caps of the relayed REGISTER: one for each service (RFC 8599 §8).
    pub fn to_upstream(&self) -> impl Iterator<Item = String> + '_ {
        self.pushed.iter().map(|pns| caps(*pns))
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
        let pushed = pushed.iter().map(move |pns| caps(*pns) + &more);
        pushed.chain(self.listed.iter().map(|pns| caps(*pns)))
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

fn caps(pns: Pns) -> String {
    format!("*;+sip.pns=\"{}\"", pns.provider())
}
