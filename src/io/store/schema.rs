//! How bindings look on disk: an explicit binary schema, version 1.
//!
//! A binding's key is 16 bytes: address-of-record, then binding, both big-endian. Its value is one
//! version byte and the sealed fields in the order of [`encode`]. Numbers are LEB128, texts and
//! bytes are a length and the bytes, an option is a byte 0 or 1 before its value.
//!
//! A later version that only appends fields keeps the version byte: a reader ignores what follows
//! the fields that it knows. Any other change needs a new version, which this one refuses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::proto::aor::users_of_shard;
use crate::proto::push::params::PushParams;
use crate::proto::push::{Pns, Prid};
use crate::proto::registration::binding::StoredBinding;
use crate::proto::settings::ConfiguredDevice;
use crate::proto::{
    AorId, BindingId, BindingKey, ConnectionId, Flow, FlowId, HeldId, ListenerId, StoredCall,
    Transport,
};

/// The newest version that is understood here; written into every value.
pub(super) const VERSION: u8 = 1;

/// A key as it is on disk.
pub(super) type RawKey = [u8; 16];

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    /// The value ends before its fields do, or a field is out of range.
    #[error("a record is malformed")]
    Malformed,
    /// Another gateway's version.
    #[error("a record has version {0}")]
    Version(u8),
}

/// What an `Extend` leaves beside a binding: only its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extension {
    /// See [`StoredBinding::expires_unix`].
    pub(super) expires_unix: u64,
    /// See [`StoredBinding::registered_ms`].
    pub(super) registered_ms: u64,
}

/// Writes a key.
pub(super) fn encode_key(key: BindingKey) -> RawKey {
    ((u128::from(key.aor.0) << 64) | u128::from(key.binding.0)).to_be_bytes()
}

/// The keys of a shard's bindings.
pub(super) fn keys_of_shard(shard: u16, shards: u16) -> RangeInclusive<RawKey> {
    let users = users_of_shard(shard, shards);
    let key = |user: u32, rest: u32| {
        let rest = u64::from(rest);
        encode_key(BindingKey {
            aor: AorId(u64::from(user) << 32 | rest),
            binding: BindingId(rest << 32 | rest),
        })
    };
    key(*users.start(), 0)..=key(*users.end(), u32::MAX)
}

/// Reads a key.
pub(super) fn decode_key(raw: &[u8]) -> Result<BindingKey, DecodeError> {
    let raw: RawKey = raw.try_into().map_err(|_| DecodeError::Malformed)?;
    let number = u128::from_be_bytes(raw);
    let low = u128::from(u64::MAX);
    let (Ok(aor), Ok(binding)) = (u64::try_from(number >> 64), u64::try_from(number & low)) else {
        return Err(DecodeError::Malformed);
    };
    Ok(BindingKey {
        aor: AorId(aor),
        binding: BindingId(binding),
    })
}

/// Writes an extension, version byte included: its two times are no secret.
pub(super) fn encode_extension(extension: Extension) -> Vec<u8> {
    let mut writer = Writer(Vec::with_capacity(16));
    writer.byte(VERSION);
    writer.number(extension.expires_unix);
    writer.number(extension.registered_ms);
    writer.0
}

/// Reads an extension.
pub(super) fn decode_extension(raw: &[u8]) -> Result<Extension, DecodeError> {
    let mut reader = Reader(raw);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    Ok(Extension {
        expires_unix: reader.number()?,
        registered_ms: reader.number()?,
    })
}

/// Writes a binding's fields, without key and version.
pub(super) fn encode(binding: &StoredBinding, into: &mut Vec<u8>) {
    let mut writer = Writer(std::mem::take(into));
    writer.number(binding.expires_unix);
    writer.number(binding.registered_ms);
    writer.text(&binding.user);
    writer.text(&binding.domain);
    writer.text(&binding.upstream);
    writer.bytes(&binding.contact);
    writer.option(binding.instance.as_deref(), Writer::text);
    writer.option(binding.reg_id, |w, id| w.number(u64::from(id)));
    writer.option(binding.push.as_ref(), Writer::push);
    writer.flow(binding.flow);
    // A Call-ID once stood here.
    writer.text("");
    *into = writer.0;
}

/// Reads a binding's fields.
pub(super) fn decode(key: BindingKey, raw: &[u8]) -> Result<StoredBinding, DecodeError> {
    let mut reader = Reader(raw);
    let expires_unix = reader.number()?;
    let registered_ms = reader.number()?;
    let binding = StoredBinding {
        key,
        expires_unix,
        registered_ms,
        user: reader.text()?,
        domain: reader.text()?,
        upstream: reader.text()?,
        contact: Bytes::copy_from_slice(reader.bytes()?),
        instance: reader.option(Reader::text)?,
        reg_id: reader.option(Reader::narrow)?,
        push: reader.option(Reader::push)?,
        flow: reader.flow()?,
    };
    reader.text()?;
    Ok(binding)
}

/// Writes a call that waits, without its name.
pub(super) fn encode_call(call: &StoredCall, into: &mut Vec<u8>) {
    let mut writer = Writer(std::mem::take(into));
    writer.number(call.since_ms);
    writer.flow(call.flow);
    writer.bytes(&call.request);
    *into = writer.0;
}

/// Reads a call that waits.
pub(super) fn decode_call(id: HeldId, raw: &[u8]) -> Result<StoredCall, DecodeError> {
    let mut reader = Reader(raw);
    Ok(StoredCall {
        id,
        since_ms: reader.number()?,
        flow: reader.flow()?,
        request: Bytes::copy_from_slice(reader.bytes()?),
    })
}

/// Writes the devices that operators have entered.
pub(super) fn encode_entered(devices: &[ConfiguredDevice], into: &mut Vec<u8>) {
    let mut writer = Writer(std::mem::take(into));
    writer.number(devices.len() as u64);
    for device in devices {
        writer.text(&device.user);
        writer.option(device.domain.as_deref(), Writer::text);
        writer.option(device.instance.as_deref(), Writer::text);
        writer.option(device.user_agent.as_deref(), Writer::text);
        writer.push(&device.params);
    }
    *into = writer.0;
}

/// Reads the devices that operators have entered.
pub(super) fn decode_entered(raw: &[u8]) -> Result<Vec<ConfiguredDevice>, DecodeError> {
    let mut reader = Reader(raw);
    let count = reader.number()?;
    (0..count)
        .map(|_| {
            Ok(ConfiguredDevice {
                user: reader.text()?,
                domain: reader.option(Reader::text)?,
                instance: reader.option(Reader::text)?,
                user_agent: reader.option(Reader::text)?,
                params: reader.push()?,
            })
        })
        .collect()
}

/// Appends fields.
struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    fn number(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn push(&mut self, push: &PushParams) {
        self.byte(match push.pns {
            Pns::Apns => 0,
            Pns::ApnsSandbox => 1,
            Pns::Fcm => 2,
            Pns::WebPush => 3,
            Pns::Webhook => 4,
        });
        self.text(&push.app);
        self.option(push.detail.as_deref(), Self::text);
        self.text(push.call_token.expose());
        self.option(push.alert_token.as_ref().map(Prid::expose), Self::text);
    }

    fn flow(&mut self, flow: Flow) {
        match flow.id {
            FlowId::Datagram { listener, remote } => {
                self.byte(0);
                self.number(u64::from(listener.0));
                self.address(remote);
            }
            FlowId::Stream(connection) => {
                self.byte(1);
                self.number(connection.0);
            }
        }
        self.number(u64::from(flow.listener.0));
        self.address(flow.remote);
        self.byte(match flow.transport {
            Transport::Tcp => 0,
            Transport::Tls => 1,
            Transport::Udp => 2,
            Transport::Ws => 3,
            Transport::Wss => 4,
        });
    }

    fn address(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(v4) => {
                self.byte(4);
                self.0.extend_from_slice(&v4.ip().octets());
            }
            SocketAddr::V6(v6) => {
                self.byte(6);
                self.0.extend_from_slice(&v6.ip().octets());
                self.number(u64::from(v6.flowinfo()));
                self.number(u64::from(v6.scope_id()));
            }
        }
        self.number(u64::from(address.port()));
    }
}

/// Takes fields off the front.
struct Reader<'v>(&'v [u8]);

impl<'v> Reader<'v> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed)
    }

    fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, DecodeError> {
        T::try_from(self.number()?).map_err(|_| DecodeError::Malformed)
    }

    fn bytes(&mut self) -> Result<&'v [u8], DecodeError> {
        let length = self.narrow::<usize>()?;
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(DecodeError::Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    fn text(&mut self) -> Result<Box<str>, DecodeError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes)
            .map(Box::from)
            .map_err(|_| DecodeError::Malformed)
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(DecodeError::Malformed),
        }
    }

    fn push(&mut self) -> Result<PushParams, DecodeError> {
        Ok(PushParams {
            pns: match self.byte()? {
                0 => Pns::Apns,
                1 => Pns::ApnsSandbox,
                2 => Pns::Fcm,
                3 => Pns::WebPush,
                4 => Pns::Webhook,
                _ => return Err(DecodeError::Malformed),
            },
            app: self.text()?,
            detail: self.option(Self::text)?,
            call_token: Prid::new(&self.text()?),
            alert_token: self.option(Self::text)?.map(|token| Prid::new(&token)),
        })
    }

    fn flow(&mut self) -> Result<Flow, DecodeError> {
        Ok(Flow {
            id: match self.byte()? {
                0 => FlowId::Datagram {
                    listener: ListenerId(self.narrow()?),
                    remote: self.address()?,
                },
                1 => FlowId::Stream(ConnectionId(self.number()?)),
                _ => return Err(DecodeError::Malformed),
            },
            listener: ListenerId(self.narrow()?),
            remote: self.address()?,
            transport: match self.byte()? {
                0 => Transport::Tcp,
                1 => Transport::Tls,
                2 => Transport::Udp,
                3 => Transport::Ws,
                4 => Transport::Wss,
                _ => return Err(DecodeError::Malformed),
            },
        })
    }

    fn address(&mut self) -> Result<SocketAddr, DecodeError> {
        match self.byte()? {
            4 => {
                let ip = Ipv4Addr::from(self.array::<4>()?);
                Ok(SocketAddr::new(IpAddr::V4(ip), self.narrow()?))
            }
            6 => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                let flowinfo = self.narrow()?;
                let scope_id = self.narrow()?;
                let port = self.narrow()?;
                Ok(SocketAddrV6::new(ip, port, flowinfo, scope_id).into())
            }
            _ => Err(DecodeError::Malformed),
        }
    }
}

/// See [`super::rereads`].
pub(super) fn rereads(raw: &[u8]) -> Option<bool> {
    let key = BindingKey {
        aor: AorId(1),
        binding: BindingId(2),
    };
    let mut written = Vec::new();
    let binding = decode(key, raw).ok().map(|binding| {
        encode(&binding, &mut written);
        decode(key, &written) == Ok(binding)
    });
    written.clear();
    let call = decode_call(HeldId(3), raw).ok().map(|call| {
        encode_call(&call, &mut written);
        decode_call(HeldId(3), &written) == Ok(call)
    });
    let extension = decode_extension(raw)
        .ok()
        .map(|extension| decode_extension(&encode_extension(extension)) == Ok(extension));
    [binding, call, extension]
        .into_iter()
        .flatten()
        .reduce(|one, other| one && other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn phone() -> StoredBinding {
        StoredBinding {
            key: BindingKey {
                aor: AorId(u64::MAX - 1),
                binding: BindingId(7),
            },
            user: "alice".into(),
            domain: "pbx.example.com".into(),
            upstream: "pbx".into(),
            contact: Bytes::from_static(b"<sip:alice@192.0.2.1;pn-prid=x\xff>"),
            instance: Some("<urn:uuid:00000000-0000-1000-8000-000A95A0E128>".into()),
            reg_id: Some(u32::MAX),
            push: Some(PushParams {
                pns: Pns::ApnsSandbox,
                app: "com.example.app".into(),
                detail: Some("ABCDE12345".into()),
                call_token: Prid::new("aa11"),
                alert_token: Some(Prid::new("bb22")),
            }),
            flow: Flow {
                id: FlowId::Datagram {
                    listener: ListenerId(3),
                    remote: "[fe80::1]:5060".parse().unwrap(),
                },
                listener: ListenerId(3),
                remote: SocketAddrV6::new(Ipv6Addr::LOCALHOST, 65_535, 9, 2).into(),
                transport: Transport::Udp,
            },
            expires_unix: u64::MAX,
            registered_ms: 1_700_000_000_123,
        }
    }

    fn encoded(binding: &StoredBinding) -> Vec<u8> {
        let mut raw = Vec::new();
        encode(binding, &mut raw);
        raw
    }

    #[test]
    fn a_binding_comes_back_as_it_was() {
        let full = phone();
        assert_eq!(decode(full.key, &encoded(&full)), Ok(full.clone()));
        let bare = StoredBinding {
            domain: "".into(),
            instance: None,
            reg_id: None,
            push: None,
            flow: Flow {
                id: FlowId::Stream(ConnectionId(u64::MAX)),
                listener: ListenerId(0),
                remote: "192.0.2.9:1".parse().unwrap(),
                transport: Transport::Wss,
            },
            ..full
        };
        assert_eq!(decode(bare.key, &encoded(&bare)), Ok(bare));
    }

    #[test]
    fn a_key_comes_back_and_keeps_an_agents_devices_together() {
        let key = phone().key;
        let raw = encode_key(key);
        assert_eq!(raw[..8], (u64::MAX - 1).to_be_bytes());
        assert_eq!(decode_key(&raw), Ok(key));
        assert_eq!(decode_key(&raw[1..]), Err(DecodeError::Malformed));
    }

    #[test]
    fn a_call_comes_back() {
        let call = StoredCall {
            id: HeldId(7),
            since_ms: 1_700_000_000_000,
            flow: phone().flow,
            request: Bytes::from_static(b"INVITE sip:a@b SIP/2.0\r\n\r\n"),
        };
        let mut raw = Vec::new();
        encode_call(&call, &mut raw);
        assert_eq!(decode_call(call.id, &raw), Ok(call.clone()));
        for end in 0..raw.len() {
            let cut = decode_call(call.id, &raw[..end]);
            assert_eq!(cut, Err(DecodeError::Malformed));
        }
    }

    #[test]
    fn fields_that_a_later_version_appends_are_ignored() {
        let binding = phone();
        let mut raw = encoded(&binding);
        raw.extend_from_slice(b"more");
        assert_eq!(decode(binding.key, &raw), Ok(binding));
    }

    #[test]
    fn every_cut_of_a_binding_is_refused() {
        let binding = phone();
        let raw = encoded(&binding);
        for end in 0..raw.len() {
            assert_eq!(
                decode(binding.key, &raw[..end]),
                Err(DecodeError::Malformed)
            );
        }
    }

    #[test]
    fn an_extension_of_another_version_is_refused() {
        let extension = Extension {
            expires_unix: 1_700_000_600,
            registered_ms: 1_700_000_000_000,
        };
        let mut raw = encode_extension(extension);
        assert!(raw.len() <= 16, "an extension is a small record");
        assert_eq!(decode_extension(&raw), Ok(extension));
        raw[0] = 2;
        assert_eq!(decode_extension(&raw), Err(DecodeError::Version(2)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode(phone().key, &raw).ok();
            decode_extension(&raw).ok();
        }

        #[test]
        fn every_number_comes_back(value in any::<u64>()) {
            let mut writer = Writer(Vec::new());
            writer.number(value);
            prop_assert_eq!(Reader(&writer.0).number(), Ok(value));
        }
    }
}
