//! `[[device]]`: how devices are woken whose app puts nothing into its Contact.

use super::mistake::Wrong;
use super::read::Section;
use crate::proto::push::Pns;
use crate::proto::push::params::{NoPush, PushParams};
use crate::proto::settings::{ConfiguredDevice, Push};

/// More than this belongs into a database.
pub const MOST: usize = 10_000;
/// What helps when it is not said whose device it is.
const NO_AGENT: &str = "add agent = \"1001\" or \"1001@pbx.example.com\": whose phone it is";

/// Reads `[[device]]`; `push` says who can be pushed.
pub(super) fn devices(root: &Section<'_>, push: &Push) -> Vec<ConfiguredDevice> {
    let sections = root.sections("device");
    if let Some(section) = sections.get(MOST) {
        let what = format!("there are more than {MOST} [[device]]");
        let cure = "let the apps put pn-* parameters into their Contact";
        section.wrong(section.place(), Wrong::new(what, cure));
    }
    let devices = sections.into_iter().filter_map(|section| {
        let device = device(&section, push);
        section.finish();
        device
    });
    devices.collect()
}

/// A device that is entered while the gateway runs, in the words of a `[[device]]`.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// `agent`.
    pub agent: &'a str,
    /// `provider`.
    pub provider: &'a str,
    /// `param`.
    pub param: Option<&'a str>,
    /// `prid`.
    pub prid: &'a str,
    /// `instance`.
    pub instance: Option<&'a str>,
    /// `user_agent`.
    pub user_agent: Option<&'a str>,
}

/// Reads a device that is entered while the gateway runs.
///
/// # Errors
///
/// What is wrong with it, and what helps; never its token.
pub fn entered(entry: Entry<'_>, push: &Push) -> Result<ConfiguredDevice, String> {
    let told = |wrong: Wrong| format!("{}: {}", wrong.what, wrong.cure);
    let (user, domain) = named(entry.agent).map_err(told)?;
    let params = woken(entry.provider, entry.param, entry.prid, push).map_err(told)?;
    Ok(ConfiguredDevice {
        user,
        domain,
        instance: entry.instance.map(bare),
        user_agent: entry.user_agent.map(Box::from),
        params,
    })
}

fn device(section: &Section<'_>, push: &Push) -> Option<ConfiguredDevice> {
    let agent = section.required("agent", NO_AGENT);
    let agent = agent.and_then(|text| section.parsed(&text, named));
    let cure = "add provider = \"fcm\": as an app would write it in pn-provider";
    let provider = section.required("provider", cure);
    let cure = "add prid: the app's token, or its Web Push endpoint";
    let prid = section.required("prid", cure);
    let param = section.text("param");
    let instance = section.text("instance");
    let user_agent = section.text("user_agent");
    let (provider, prid) = (provider?, prid?);
    let params = section.parsed(&prid, |prid| {
        let param = param.as_ref().map(|text| &*text.text);
        woken(&provider.text, param, prid, push)
    })?;
    let (user, domain) = agent?;
    Some(ConfiguredDevice {
        user,
        domain,
        instance: instance.map(|text| bare(&text.text)),
        user_agent: user_agent.map(|text| text.text.into()),
        params,
    })
}

/// Reads whose device it is: the user, and the domain if one is named.
fn named(text: &str) -> Result<(Box<str>, Option<Box<str>>), Wrong> {
    let (user, domain) = match text.split_once('@') {
        Some((user, domain)) => (user, Some(domain)),
        None => (text, None),
    };
    let is_name = |name: &str| !name.is_empty() && !name.contains(['@', ' ']);
    if is_name(user) && domain.is_none_or(is_name) {
        let domain = domain.map(|domain| domain.to_ascii_lowercase().into());
        return Ok((user.into(), domain));
    }
    Err(Wrong::new(format!("\"{text}\" is no agent"), NO_AGENT))
}

/// Reads how it is woken.
fn woken(
    provider: &str,
    param: Option<&str>,
    prid: &str,
    push: &Push,
) -> Result<PushParams, Wrong> {
    let params = PushParams::of(provider, param, prid).map_err(unreadable)?;
    if push.can_push(params.pns, &params.app) {
        return Ok(params);
    }
    let what = format!("nobody pushes for provider \"{provider}\" and this param");
    Err(Wrong::new(what, section_for(params.pns)))
}

/// An instance without what it may be written in.
fn bare(instance: &str) -> Box<str> {
    instance.trim_matches(['<', '>', '"']).into()
}

/// What is wrong with a device's push parameters; never the token itself.
fn unreadable(reason: NoPush) -> Wrong {
    match reason {
        NoPush::BadParam => Wrong::new(
            "`param` is missing or not readable",
            "APNs: TEAM.bundle.voip; FCM: the project; Web Push: P256DH.AUTH; see docs/push.md",
        ),
        NoPush::UnknownProvider => Wrong::new(
            "`provider` is not readable",
            "write apns, apns.dev, fcm, webpush or one of your [[push.webhook]]",
        ),
        NoPush::Absent
        | NoPush::Query
        | NoPush::BadToken
        | NoPush::NoAlertToken
        | NoPush::NotConfigured
        | NoPush::ForbiddenHost
        | NoPush::RateLimited
        | NoPush::NearerProxy
        | NoPush::TooShort => Wrong::new(
            "`prid` is no token of this provider",
            "write it as the app got it, without pn-prid= and not escaped",
        ),
    }
}

const fn section_for(pns: Pns) -> &'static str {
    match pns {
        Pns::Apns | Pns::ApnsSandbox => "add its bundle id to the topics of a [[push.apns]]",
        Pns::Fcm => "add a [[push.fcm]] with that project",
        Pns::WebPush => "add its host to the hosts of [[push.webpush]]",
        Pns::Webhook => "add it to the providers of a [[push.webhook]]",
    }
}
