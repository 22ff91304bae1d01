//! The push parameters of a Contact URI (RFC 8599 §4, §14): read leniently where unambiguous.
//!
//! Three forms: RFC 8599's; Linphone's two tokens (`pn-param=TEAM.bundle.voip&remote;
//! pn-prid=A:voip&B:remote`); the legacy `app-id`, `pn-type`, `pn-tok`. A Web Push subscription has
//! keys beside its endpoint, for which RFC 8599 §12 has no place: `pn-keys=P256DH.AUTH`. Every
//! reason for "no push" has a name in [`NoPush`].

use std::borrow::Cow;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::proto::AppId;
use crate::proto::push::{Pns, Prid};
use crate::proto::sip::{Params, unescape};

/// Longest token that is taken, in characters: FCM's are around 160, APNs' 64 to 200.
const LONGEST_TOKEN: usize = 1024;
/// Longest endpoint of a Web Push subscription that is taken.
const LONGEST_ENDPOINT: usize = 1536;
/// Longest app name that is taken (a bundle id or a project id).
const LONGEST_APP: usize = 155;
/// A point on P-256 and 16 bytes in base64url without padding (RFC 8291 §3.1, §3.2).
const KEY_LENGTHS: (usize, usize) = (87, 22);

/// A device's push parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushParams {
    /// The service.
    pub pns: Pns,
    /// APNs: the bundle id without team and suffix. FCM: the project id or sender id, may be empty.
    /// Web Push: the host of the subscription, with its port if it is not 443. Webhook: the
    /// provider's name, lower case.
    pub app: Box<str>,
    /// APNs: the team id, if the device named it. Webhook: `pn-param` as it came.
    pub detail: Option<Box<str>>,
    /// The token for calls: APNs' VoIP token, FCM's and a webhook's only one; a Web Push
    /// subscription's endpoint with its keys as the fragment.
    pub call_token: Prid,
    /// The token for everything else: APNs' remote token; FCM's only one; `None` if the device has
    /// a VoIP token alone.
    pub alert_token: Option<Prid>,
}

/// Why a Contact gives no way to wake its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoPush {
    /// It has no push parameters.
    Absent,
    /// A capability query: a provider without a token (RFC 8599 §4.1.1).
    Query,
    /// A push service that we do not speak.
    UnknownProvider,
    /// The token is missing, too long, or has characters that no token of this service has.
    BadToken,
    /// `pn-param` is missing or not readable.
    BadParam,
    /// It has a token for calls alone, which must not carry anything else (it can be called, but
    /// not asked to register again).
    NoAlertToken,
    /// No provider is configured for this service and app.
    NotConfigured,
    /// A Web Push subscription at a host that the operator has not allowed.
    ForbiddenHost,
    /// So many pushes have gone to this device lately that this one was left out.
    RateLimited,
    /// A proxy nearer to the device has said that it pushes (RFC 8599 §5.6.1.1).
    NearerProxy,
    /// Its registration is too short to be kept by pushes (RFC 8599 §5.6.1.1).
    TooShort,
}

impl NoPush {
    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Query => "query",
            Self::UnknownProvider => "unknown-provider",
            Self::BadToken => "bad-token",
            Self::BadParam => "bad-param",
            Self::NoAlertToken => "no-alert-token",
            Self::NotConfigured => "not-configured",
            Self::ForbiddenHost => "forbidden-host",
            Self::RateLimited => "rate-limited",
            Self::NearerProxy => "nearer-proxy",
            Self::TooShort => "too-short",
        }
    }
}

/// A parameter of a URI: whether it is there, and its value.
type Said<'m> = Option<Option<&'m [u8]>>;

/// What a URI says of pushes, the first of each name.
#[derive(Default)]
struct SaidPush<'m> {
    provider: Said<'m>,
    prid: Said<'m>,
    param: Said<'m>,
    keys: Said<'m>,
    legacy_token: Said<'m>,
    legacy_type: Said<'m>,
    legacy_app: Said<'m>,
}

impl<'m> SaidPush<'m> {
    fn of(params: Params<'m>) -> Self {
        let mut said = Self::default();
        for (name, value) in params.iter().filter(|(name, _)| is_push_param(name)) {
            let places = [
                ("pn-provider", &mut said.provider),
                ("pn-prid", &mut said.prid),
                ("pn-param", &mut said.param),
                ("pn-keys", &mut said.keys),
                ("pn-tok", &mut said.legacy_token),
                ("pn-type", &mut said.legacy_type),
                ("app-id", &mut said.legacy_app),
            ];
            let mut places = places.into_iter();
            let place = places.find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
            if let Some((_, place)) = place {
                place.get_or_insert(value);
            }
        }
        said
    }
}

/// A parameter's value without its escapes, if it has one and that is text.
fn text(said: Said<'_>) -> Option<Cow<'_, str>> {
    match unescape(said.flatten()?) {
        Cow::Borrowed(value) => str::from_utf8(value).ok().map(Cow::Borrowed),
        Cow::Owned(value) => String::from_utf8(value).ok().map(Cow::Owned),
    }
}

/// Whether a URI parameter is about pushes: it never leaves toward anybody but the device.
#[must_use]
pub fn is_push_param(name: &[u8]) -> bool {
    name.get(..3)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"pn-"))
        || name.eq_ignore_ascii_case(b"app-id")
}

impl PushParams {
    /// Whether a call's push by the one wakes the same app on the same phone as by the other.
    #[must_use]
    pub fn wakes_same_app(&self, other: &Self) -> bool {
        self.pns == other.pns && self.app == other.app && self.call_token == other.call_token
    }

    /// The number of the app and phone that a call's push wakes: a hash that tells nothing of the
    /// token.
    #[must_use]
    pub fn wakes(&self) -> AppId {
        self.number(0, self.call_token.expose())
    }

    /// The number of the app on the phone with that instance-id, whatever its token is.
    #[must_use]
    pub fn installed_as(&self, instance: &str) -> AppId {
        self.number(1, instance)
    }

    fn number(&self, kind: u64, name: &str) -> AppId {
        let mut hasher = SipHasher13::new_with_keys(0x726f_7573_6561_7070, kind);
        for part in [self.pns.label(), &*self.app, name] {
            hasher.write(part.as_bytes());
            hasher.write_u8(0);
        }
        AppId(hasher.finish())
    }

    /// Reads the parameters of a Contact URI.
    ///
    /// # Errors
    /// Why the device cannot be woken.
    pub fn read(params: Params<'_>) -> Result<Self, NoPush> {
        let said = SaidPush::of(params);
        if let Some(token) = text(said.legacy_token) {
            return Self::read_legacy(text(said.legacy_type), text(said.legacy_app), &token);
        }
        if said.provider.is_none() {
            return Err(if said.prid.is_some() {
                NoPush::UnknownProvider
            } else {
                NoPush::Absent
            });
        }
        let Some(provider) = text(said.provider) else {
            return Err(NoPush::Query);
        };
        let Some(prid) = text(said.prid) else {
            return Err(NoPush::Query);
        };
        let (param, keys) = (text(said.param), text(said.keys));
        let keys = keys.as_deref().or(param.as_deref());
        match Pns::of_provider(&provider) {
            Pns::WebPush => Self::read_web_push(&prid, keys),
            Pns::Apns | Pns::ApnsSandbox | Pns::Fcm | Pns::Webhook => {
                Self::of(&provider, param.as_deref(), &prid)
            }
        }
    }

    /// Reads the three parts that a Contact or a configuration names; for Web Push `param` is the
    /// keys.
    ///
    /// # Errors
    /// Why they give no way to wake a device.
    pub fn of(provider: &str, param: Option<&str>, prid: &str) -> Result<Self, NoPush> {
        match Pns::of_provider(provider) {
            pns @ (Pns::Apns | Pns::ApnsSandbox) => Self::read_apns(pns, param, prid),
            Pns::Fcm => Self::read_fcm(param.unwrap_or(""), prid),
            Pns::WebPush => Self::read_web_push(prid, param),
            Pns::Webhook => Self::read_webhook(provider, param, prid),
        }
    }

    /// `app-id`, `pn-type`, `pn-tok`: `apple`, `ios`, `apns` with a bundle id; `google`,
    /// `firebase`, `android`, `fcm` with a project.
    fn read_legacy(
        kind: Option<Cow<'_, str>>,
        app: Option<Cow<'_, str>>,
        token: &str,
    ) -> Result<Self, NoPush> {
        let kind = kind.unwrap_or_default().to_ascii_lowercase();
        let app = app.unwrap_or_default();
        match kind.as_str() {
            "apple" | "ios" | "apns" => {
                let pns = if app.ends_with(".dev") {
                    Pns::ApnsSandbox
                } else {
                    Pns::Apns
                };
                let bundle = app
                    .strip_suffix(".dev")
                    .or_else(|| app.strip_suffix(".prod"));
                Self::read_apns(pns, Some(bundle.unwrap_or(&app)), token)
            }
            "google" | "firebase" | "android" | "fcm" | "gcm" => Self::read_fcm(&app, token),
            _ => Err(NoPush::UnknownProvider),
        }
    }

    /// `TEAM.bundle.voip`, `TEAM.bundle`, `bundle.voip`, `TEAM.bundle.voip&remote` with tokens
    /// `T`, `T:voip`, `A:voip&B:remote` in any order.
    fn read_apns(pns: Pns, param: Option<&str>, prid: &str) -> Result<Self, NoPush> {
        let param = param
            .filter(|param| !param.is_empty())
            .ok_or(NoPush::BadParam)?;
        let (team, app) = split_apns_param(param).ok_or(NoPush::BadParam)?;
        let mut voip = None;
        let mut remote = None;
        let mut plain = None;
        for part in prid.split('&') {
            let (token, service) = part.rsplit_once(':').unwrap_or((part, ""));
            let token = apns_token(token).ok_or(NoPush::BadToken)?;
            match service.to_ascii_lowercase().as_str() {
                "voip" => voip = Some(token),
                "remote" => remote = Some(token),
                "" => plain = Some(token),
                _ => return Err(NoPush::BadToken),
            }
        }
        // One token without a service is for the service that pn-param names; VoIP if it names none.
        let call_token = voip.or_else(|| plain.clone()).ok_or(NoPush::BadToken)?;
        Ok(Self {
            pns,
            app,
            detail: team,
            call_token,
            alert_token: remote,
        })
    }

    fn read_fcm(app: &str, token: &str) -> Result<Self, NoPush> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':' | b'.');
        if token.is_empty() || token.len() > LONGEST_TOKEN || !token.bytes().all(is_token) {
            return Err(NoPush::BadToken);
        }
        if !is_app(app) && !app.is_empty() {
            return Err(NoPush::BadParam);
        }
        let token = Prid::new(token);
        Ok(Self {
            pns: Pns::Fcm,
            app: app.into(),
            detail: None,
            call_token: token.clone(),
            alert_token: Some(token),
        })
    }

    /// A subscription: its endpoint, and its keys if the pushes shall say anything.
    fn read_web_push(endpoint: &str, keys: Option<&str>) -> Result<Self, NoPush> {
        let host = endpoint_host(endpoint).ok_or(NoPush::BadToken)?;
        let token = match keys.filter(|keys| !keys.is_empty()) {
            None => Prid::new(endpoint),
            Some(keys) => {
                let keys = subscription_keys(keys).ok_or(NoPush::BadParam)?;
                Prid::new(&format!("{endpoint}#{keys}"))
            }
        };
        Ok(Self {
            pns: Pns::WebPush,
            app: host.into(),
            detail: None,
            call_token: token.clone(),
            alert_token: Some(token),
        })
    }

    /// What another provider takes is the operator's business; here it must only be writable.
    fn read_webhook(provider: &str, param: Option<&str>, prid: &str) -> Result<Self, NoPush> {
        let is_plain =
            |text: &str| text.len() <= LONGEST_TOKEN && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_app(provider) {
            return Err(NoPush::UnknownProvider);
        }
        if prid.is_empty() || !is_plain(prid) {
            return Err(NoPush::BadToken);
        }
        let param = param.filter(|param| !param.is_empty());
        if !param.is_none_or(is_plain) {
            return Err(NoPush::BadParam);
        }
        let token = Prid::new(prid);
        Ok(Self {
            pns: Pns::Webhook,
            app: provider.to_ascii_lowercase().into(),
            detail: param.map(Into::into),
            call_token: token.clone(),
            alert_token: Some(token),
        })
    }
}

/// Whether a host is what an operator allowed: that host, or with `*.` all below a domain.
#[must_use]
pub fn allows_host(allowed: &str, host: &str) -> bool {
    match allowed.strip_prefix('*') {
        Some(domain) => host.len() > domain.len() && host.ends_with(domain),
        None => allowed == host,
    }
}

/// The host of a subscription's endpoint, lower case, with its port if it is not 443.
fn endpoint_host(endpoint: &str) -> Option<String> {
    let is_url = |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>' | b'\\');
    if endpoint.len() > LONGEST_ENDPOINT || !endpoint.bytes().all(is_url) {
        return None;
    }
    let (scheme, rest) = endpoint.split_once("://")?;
    let (authority, _) = rest.split_at(rest.find(['/', '?'])?);
    let is_authority = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    if !scheme.eq_ignore_ascii_case("https")
        || authority.is_empty()
        || !authority.bytes().all(is_authority)
    {
        return None;
    }
    let authority = authority.to_ascii_lowercase();
    Some(
        authority
            .strip_suffix(":443")
            .unwrap_or(&authority)
            .to_owned(),
    )
}

/// `P256DH.AUTH` without padding, if that is what it is.
fn subscription_keys(keys: &str) -> Option<String> {
    let (public, secret) = keys.split_once('.')?;
    let (public, secret) = (public.trim_end_matches('='), secret.trim_end_matches('='));
    let is_key = |key: &str| {
        key.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // An uncompressed point begins with the byte 4.
    let is_point = public.starts_with('B') && is_key(public);
    ((public.len(), secret.len()) == KEY_LENGTHS && is_point && is_key(secret))
        .then(|| format!("{public}.{secret}"))
}

/// Splits `TEAM.bundle.voip&remote` into the team and the bundle id.
fn split_apns_param(param: &str) -> Option<(Option<Box<str>>, Box<str>)> {
    let first = param.split('&').next()?;
    let bundle = first
        .strip_suffix(".voip")
        .or_else(|| first.strip_suffix(".remote"))
        .unwrap_or(first);
    // A team id is ten capitals and digits (Apple); a bundle id's first label is hardly ever so.
    let (team, bundle) = match bundle.split_once('.') {
        Some((team, rest)) if is_team(team) && !rest.is_empty() => (Some(team.into()), rest),
        _ => (None, bundle),
    };
    is_app(bundle).then(|| (team, bundle.into()))
}

fn is_team(label: &str) -> bool {
    label.len() >= 6
        && label.len() <= 16
        && label
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn is_app(app: &str) -> bool {
    !app.is_empty()
        && app.len() <= LONGEST_APP
        && !app.contains("..")
        && app
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn apns_token(token: &str) -> Option<Prid> {
    let is_hex = token.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hex && !token.is_empty() && token.len() <= LONGEST_TOKEN).then(|| Prid::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::sip::Uri;

    fn read(params: &str) -> Result<PushParams, NoPush> {
        let uri = format!("sip:1001@h;{params}");
        PushParams::read(Uri::parse(uri.as_bytes()).unwrap().params)
    }

    #[test]
    fn the_forms_that_apps_send_are_read() {
        let one = read("pn-provider=apns;pn-param=DEF123GHIJ.com.example.app.voip;pn-prid=00aaBB")
            .unwrap();
        assert_eq!(
            (one.pns, &*one.app, one.detail.as_deref()),
            (Pns::Apns, "com.example.app", Some("DEF123GHIJ"))
        );
        assert_eq!(one.call_token.expose(), "00aaBB");
        assert_eq!(one.alert_token, None);
        let two = read(
            "pn-provider=apns.dev;pn-param=DEF123GHIJ.com.example.app.voip&remote;\
             pn-prid=00AA:voip&11BB:remote",
        )
        .unwrap();
        assert_eq!(
            (two.pns, two.call_token.expose()),
            (Pns::ApnsSandbox, "00AA")
        );
        assert_eq!(two.alert_token.unwrap().expose(), "11BB");
        let escaped = read("pn-provider=apns;pn-param=T12345.app;pn-prid=AAAA%3Avoip").unwrap();
        assert_eq!(escaped.call_token.expose(), "AAAA");
        let fcm = read("pn-provider=fcm;pn-param=my-project;pn-prid=ab_c-D:APA91b").unwrap();
        assert_eq!(
            (fcm.pns, &*fcm.app, fcm.call_token.expose()),
            (Pns::Fcm, "my-project", "ab_c-D:APA91b")
        );
        let legacy = read("app-id=com.example.app;pn-type=apple;pn-tok=00AA").unwrap();
        assert_eq!((legacy.pns, &*legacy.app), (Pns::Apns, "com.example.app"));
        let legacy = read("app-id=929724111839;pn-type=firebase;pn-tok=xyz:1").unwrap();
        assert_eq!((legacy.pns, &*legacy.app), (Pns::Fcm, "929724111839"));
    }

    #[test]
    fn every_other_form_has_its_reason() {
        for (params, reason) in [
            ("transport=tcp", NoPush::Absent),
            ("pn-provider", NoPush::Query),
            ("pn-provider=apns", NoPush::Query),
            ("pn-provider=ac%20me;pn-prid=1", NoPush::UnknownProvider),
            ("pn-provider=hms;pn-prid=a%20b", NoPush::BadToken),
            ("pn-provider=hms;pn-prid=a;pn-param=%00", NoPush::BadParam),
            ("pn-provider=webpush;pn-prid=http%3A//h/p", NoPush::BadToken),
            (
                "pn-provider=webpush;pn-prid=https%3A//u%40h/p",
                NoPush::BadToken,
            ),
            (
                "pn-provider=webpush;pn-prid=https%3A//h/p%0d%0a",
                NoPush::BadToken,
            ),
            (
                "pn-provider=webpush;pn-prid=https%3A//h/p%23a",
                NoPush::BadToken,
            ),
            ("pn-provider=webpush;pn-prid=https%3A//h", NoPush::BadToken),
            (
                "pn-provider=webpush;pn-prid=https%3A//h/p;pn-keys=B.short",
                NoPush::BadParam,
            ),
            ("pn-provider=apns;pn-prid=00", NoPush::BadParam),
            (
                "pn-provider=apns;pn-prid=..%2f..;pn-param=T12345.app",
                NoPush::BadToken,
            ),
            (
                "pn-provider=apns;pn-prid=00:carrier;pn-param=T12345.app",
                NoPush::BadToken,
            ),
            (
                "pn-provider=fcm;pn-prid=a%0d%0ab;pn-param=p",
                NoPush::BadToken,
            ),
            ("pn-provider=fcm;pn-prid=a;pn-param=p%22", NoPush::BadParam),
        ] {
            assert_eq!(read(params).unwrap_err(), reason, "{params}");
        }
        let long = format!("pn-provider=fcm;pn-param=p;pn-prid={}", "a".repeat(10_240));
        assert_eq!(read(&long).unwrap_err(), NoPush::BadToken);
    }

    #[test]
    fn a_subscription_is_its_endpoint_with_or_without_keys() {
        let endpoint = "https%3A//Push.Example.net%3A443/s/1%3Fk%3Dv";
        let bare = read(&format!("pn-provider=webpush;pn-prid={endpoint}")).unwrap();
        assert_eq!(
            (bare.pns, &*bare.app, bare.call_token.expose()),
            (
                Pns::WebPush,
                "push.example.net",
                "https://Push.Example.net:443/s/1?k=v"
            )
        );
        assert_eq!(bare.alert_token, Some(bare.call_token));
        let (point, secret) = (format!("B{}", "x".repeat(86)), "s".repeat(22));
        for name in ["pn-keys", "pn-param"] {
            let params =
                format!("pn-provider=webpush;pn-prid={endpoint};{name}={point}%3D.{secret}%3D%3D");
            assert_eq!(
                read(&params).unwrap().call_token.expose(),
                format!("https://Push.Example.net:443/s/1?k=v#{point}.{secret}")
            );
        }
    }

    #[test]
    fn any_other_provider_is_the_operators_own() {
        let own = read("pn-provider=HMS;pn-param=1055;pn-prid=IQAAAA%2Fx").unwrap();
        assert_eq!(
            (own.pns, &*own.app, own.detail.as_deref()),
            (Pns::Webhook, "hms", Some("1055"))
        );
        assert_eq!(own.call_token.expose(), "IQAAAA/x");
    }

    #[test]
    fn push_parameters_are_known_by_their_names() {
        assert!(is_push_param(b"pn-prid") && is_push_param(b"PN-TOK") && is_push_param(b"app-id"));
        assert!(!is_push_param(b"transport") && !is_push_param(b"pn"));
    }
}
