//! Calls as traces of OpenTelemetry: one trace for each call, made from its timeline when it is over.
//!
//! `call` has the steps as events. Below it `hold`, from the call's arrival until it went out to the
//! first device, if it had to wait, and `talk`; for each device `device`, and below that `wake`
//! (from finding it asleep until it registered), in it `push` (until the service's verdict), and
//! `branch` (from the INVITE out until its answer). Without `numbers` nobody's number and no address
//! leaves: agents and callers are named as in the log.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::io::admin::view::{CallStory, Outcome, StepView};
use crate::telemetry::redact::Pii;

/// Writes the calls as the body of an export.
#[must_use]
pub fn encode(stories: &[CallStory], numbers: bool) -> Vec<u8> {
    let spans = stories
        .iter()
        .flat_map(|story| Trace::new(story).tell(numbers));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let scope = InstrumentationScope {
        name: "rouse".to_owned(),
        version: version.clone(),
        ..InstrumentationScope::default()
    };
    let resource = Resource {
        attributes: vec![
            text("service.name", "rouse".to_owned()),
            text("service.version", version),
        ],
        ..Resource::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

/// The trace of one call.
struct Trace<'s> {
    story: &'s CallStory,
    id: u128,
    spans: Vec<Span>,
}

impl<'s> Trace<'s> {
    fn new(story: &'s CallStory) -> Self {
        let name = format!("{} {}", story.call.id, story.call.call_id);
        Self {
            story,
            id: xxh3_128(name.as_bytes()),
            spans: Vec::new(),
        }
    }

    fn tell(mut self, numbers: bool) -> Vec<Span> {
        let story = self.story;
        let call = self.call(numbers);
        if let Some(out) = self.first("forwarded")
            && self.first("asleep").is_some()
        {
            self.span(&call, "hold", SpanKind::Internal, (0, out.at_ms));
        }
        let mut devices: Vec<&str> = Vec::new();
        for device in story.steps.iter().filter_map(|step| step.device.as_deref()) {
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
        for device in devices {
            self.device(&call, device);
        }
        if let (Some(after), Some(lasted)) = (story.call.after_ms, story.call.lasted_ms) {
            self.span(&call, "talk", SpanKind::Internal, (after, after + lasted));
        }
        self.spans
    }

    /// The span of it all; returns its number.
    fn call(&mut self, numbers: bool) -> Vec<u8> {
        let (story, call) = (self.story, &self.story.call);
        let last = story.steps.last().map_or(0, |step| step.at_ms);
        let end = call
            .after_ms
            .map(|after| after + call.lasted_ms.unwrap_or(0));
        let at = self.span(
            &[],
            "call",
            SpanKind::Server,
            (0, end.unwrap_or(last).max(last)),
        );
        let named = |name: &str| {
            if numbers {
                name.to_owned()
            } else {
                Pii(name).to_string()
            }
        };
        let mut attributes = vec![
            text("sip.call_id", call.call_id.clone()),
            text("rouse.call", call.id.clone()),
            text("rouse.agent", named(&call.agent)),
            text("rouse.caller", named(&call.caller)),
            text("rouse.outcome", call.outcome.label().to_owned()),
            text("rouse.summary", call.summary.clone()),
            number("rouse.devices", u64::from(call.devices)),
            number("rouse.asleep", u64::from(call.asleep)),
        ];
        attributes.extend(
            call.status
                .map(|status| number("sip.status", u64::from(status))),
        );
        attributes.extend(call.wake_ms.map(|ms| number("rouse.wake_ms", ms)));
        let events = story.steps.iter().map(|step| {
            let said = if numbers { &step.text } else { &step.label };
            Event {
                time_unix_nano: self.nanos(step.at_ms),
                name: step.kind.clone(),
                attributes: vec![text("rouse.text", said.clone())],
                dropped_attributes_count: 0,
            }
        });
        let events = events.collect();
        let is_lost = matches!(call.outcome, Outcome::Unreachable | Outcome::Refused);
        if let Some(span) = self.spans.get_mut(at) {
            span.attributes = attributes;
            span.events = events;
            span.dropped_events_count = story.omitted;
            span.status = is_lost.then(|| failed(&call.summary));
            return span.span_id.clone();
        }
        Vec::new()
    }

    fn device(&mut self, call: &[u8], device: &str) {
        let story = self.story;
        let own = |step: &&StepView| step.device.as_deref() == Some(device);
        let steps: Vec<&StepView> = story.steps.iter().filter(own).collect();
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
            return;
        };
        let at = self.span(
            call,
            "device",
            SpanKind::Internal,
            (first.at_ms, last.at_ms),
        );
        let Some(span) = self.spans.get_mut(at) else {
            return;
        };
        span.attributes
            .push(text("rouse.device", device.to_owned()));
        let parent = span.span_id.clone();
        let wake = self.between(
            &parent,
            &steps,
            "wake",
            SpanKind::Internal,
            &["asleep"],
            &WOKEN,
        );
        let parent_of_push = wake.unwrap_or_else(|| parent.clone());
        self.between(
            &parent_of_push,
            &steps,
            "push",
            SpanKind::Client,
            &["pushed"],
            &VERDICTS,
        );
        self.between(
            &parent,
            &steps,
            "branch",
            SpanKind::Client,
            &["forwarded"],
            &ANSWERS,
        );
    }

    /// A span from each step of the one kind to the next of the others, or to the device's last one;
    /// returns the first one's number.
    fn between(
        &mut self,
        parent: &[u8],
        steps: &[&StepView],
        name: &str,
        kind: SpanKind,
        begins: &[&str],
        ends: &[&str],
    ) -> Option<Vec<u8>> {
        let mut first = None;
        for (place, begin) in steps.iter().enumerate() {
            if !begins.contains(&&*begin.kind) {
                continue;
            }
            let mut rest = steps.iter().skip(place + 1);
            let end = rest.find(|step| ends.contains(&&*step.kind));
            let until = end
                .or_else(|| steps.last())
                .map_or(begin.at_ms, |step| step.at_ms);
            let at = self.span(parent, name, kind, (begin.at_ms, until));
            let Some(span) = self.spans.get_mut(at) else {
                continue;
            };
            if let Some(end) = end {
                span.attributes
                    .push(text("rouse.result", end.label.clone()));
                let is_failure = FAILURES.contains(&&*end.kind);
                span.status = is_failure.then(|| failed(&end.label));
            }
            first.get_or_insert_with(|| span.span_id.clone());
        }
        first
    }

    /// Adds a span; returns its place.
    fn span(&mut self, parent: &[u8], name: &str, kind: SpanKind, (from, to): (u64, u64)) -> usize {
        let place = self.spans.len();
        let named = format!("{:032x} {place}", self.id);
        self.spans.push(Span {
            trace_id: self.id.to_be_bytes().to_vec(),
            span_id: xxh3_64(named.as_bytes()).to_be_bytes().to_vec(),
            parent_span_id: parent.to_vec(),
            name: name.to_owned(),
            kind: kind.into(),
            start_time_unix_nano: self.nanos(from),
            end_time_unix_nano: self.nanos(to.max(from)),
            ..Span::default()
        });
        place
    }

    fn first(&self, kind: &str) -> Option<&'s StepView> {
        self.story.steps.iter().find(|step| step.kind == kind)
    }

    /// Milliseconds after the call's arrival, in nanoseconds since the Unix epoch.
    const fn nanos(&self, after: u64) -> u64 {
        let ms = self.story.call.began_ms.saturating_add(after);
        ms.saturating_mul(1_000_000)
    }
}

const WOKEN: [&str; 3] = ["woken", "wake-timeout", "device-failed"];
const VERDICTS: [&str; 2] = ["push-accepted", "push-failed"];
const ANSWERS: [&str; 2] = ["device-answered", "device-failed"];
const FAILURES: [&str; 3] = ["wake-timeout", "push-failed", "device-failed"];

fn failed(why: &str) -> Status {
    Status {
        message: why.to_owned(),
        code: StatusCode::Error.into(),
    }
}

fn text(key: &str, value: String) -> KeyValue {
    attribute(key, Value::StringValue(value))
}

fn number(key: &str, value: u64) -> KeyValue {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
