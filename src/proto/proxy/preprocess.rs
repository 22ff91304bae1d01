//! Route information preprocessing (RFC 3261 §16.4): which Routes are ours, and what the token in
//! one of them says.

use crate::proto::proxy::Proxy;
use crate::proto::registration::flow::{FlowToken, TOKEN_CHARS};
use crate::proto::reject::Reject;
use crate::proto::sip::{Message, Uri};

/// What a request's Routes say.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// How many from the top are ours: PJSIP repeats its Path in requests inside a dialog.
    pub(super) own: usize,
    /// The first token of ours.
    pub(super) token: Option<FlowToken>,
    /// The Request-URI, if the sender is a strict router and had put ours there.
    pub(super) strict_uri: Option<Vec<u8>>,
}

impl Proxy {
    /// Reads the Routes from the top while they are ours.
    pub(super) fn preprocess(&self, request: &Message) -> Result<Routes, Reject> {
        let mut routes = Routes::default();
        let uri = request.parsed_uri().ok_or(Reject::Malformed)?;
        if let Some(token) = self.token_of(&uri)? {
            // §16.4: the Request-URI is a value that we recorded: the last Route is the real one.
            let last = request.routes().filter_map(Result::ok).last();
            let last = last.ok_or(Reject::ForeignRoute)?;
            routes.token = Some(token);
            routes.strict_uri = Some(last.uri.to_vec());
        }
        for route in request.routes() {
            let route = route.map_err(|_| Reject::Malformed)?;
            let uri = route.parse_uri().map_err(|_| Reject::Malformed)?;
            match self.token_of(&uri)? {
                Some(token) => {
                    routes.token.get_or_insert(token);
                }
                None if self.is_own_route(&uri) => {}
                None => break,
            }
            routes.own += 1;
        }
        Ok(routes)
    }

    /// The token in a URI of ours. One that looks like ours and is not signed by us is refused.
    fn token_of(&self, uri: &Uri<'_>) -> Result<Option<FlowToken>, Reject> {
        let (Some(user), Some(host)) = (uri.user, uri.host) else {
            return Ok(None);
        };
        if user.len() != TOKEN_CHARS || uri.params.get("lr").is_none() {
            return Ok(None);
        }
        match self.signer.verify(user) {
            Some(token) => Ok(Some(token)),
            None if self.upstreams.is_own_host(host) => Err(Reject::ForeignRoute),
            None => Ok(None),
        }
    }

    /// Whether a Route without a token is one of our addresses: an app's outbound proxy setting.
    /// A port that is not ours is another server's on the same host.
    fn is_own_route(&self, uri: &Uri<'_>) -> bool {
        uri.host
            .is_some_and(|host| self.upstreams.is_own_address(host, uri.port))
    }
}
