//! Calls as traces, at a collector that reads them by OpenTelemetry's own schema.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use rouse::standin::push::Act;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::rig::Rig;

/// A collector that says 503 to the first post; it tells what it has got.
struct Collector(TcpListener);

impl Collector {
    async fn new() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("it is bound");
        (Self(listener), format!("http://{address}"))
    }

    /// Answers one post; returns its head and body.
    async fn post(&self, answer: &str) -> (String, Vec<u8>) {
        let accepted = self.0.accept();
        let accepted = tokio::time::timeout(std::time::Duration::from_secs(20), accepted).await;
        let (stream, _) = accepted.expect("in time").expect("a connection");
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.expect("a line");
            if line.trim().is_empty() {
                break;
            }
            if let Some(count) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = count.trim().parse().expect("a number");
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("a body");
        let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.expect("it reads");
        (head, body)
    }
}

fn spans(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).expect("protobuf");
    let resource = request
        .resource_spans
        .into_iter()
        .next()
        .expect("a resource");
    let service = &resource.resource.expect("a resource").attributes[0];
    assert_eq!(service.key, "service.name");
    let scopes = resource.scope_spans.into_iter();
    scopes.flat_map(|scope| scope.spans).collect()
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key == key);
    let value = found.and_then(|pair| pair.value.clone()?.value);
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test]
async fn a_call_to_a_sleeping_phone_is_one_trace_without_anybodys_number() {
    let (collector, url) = Collector::new().await;
    let more = format!("[otlp]\nendpoint = \"{url}\"\nheader_file = \"@DIR@/header\"\n");
    let mut rig = Rig::with("token_file = \"@DIR@/token\"", &more, 1).await;
    rig.sleeper("1001", 1).await;
    let calling = async {
        let mut call = rig.asterisk.call("1001", "2000").await.expect("an INVITE");
        call.wait_answer().await.expect("an answer");
        call
    };
    let being_called = async {
        rig.apns.next_push().await;
        let mut phone = rig.phone("1001", 1).await;
        phone.register().await.expect("it registers");
        let mut call = phone.next_call().await.expect("a call");
        call.ring().await.expect("it rings");
        call.answer().await.expect("it answers");
        (phone, call)
    };
    let (_outgoing, (_phone, mut taken)) = tokio::join!(calling, being_called);
    assert_eq!(taken.hangup().await.expect("an answer"), 200);
    // One that is overloaded for a moment is asked again.
    let (head, first) = collector.post("503 Service Unavailable").await;
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    assert!(head.contains("x-key: geheim"), "{head}");
    let (_, body) = collector.post("200 OK").await;
    assert_eq!(first, body);

    let spans = spans(&body);
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    let expected = ["call", "hold", "device", "wake", "push", "branch", "talk"];
    assert_eq!(names, expected);
    let by_name: HashMap<&str, &Span> = names.iter().copied().zip(&spans).collect();
    let call = by_name["call"];
    for (child, parent) in [
        ("hold", "call"),
        ("device", "call"),
        ("wake", "device"),
        ("push", "wake"),
        ("branch", "device"),
        ("talk", "call"),
    ] {
        let (child, parent) = (by_name[child], by_name[parent]);
        assert_eq!(child.parent_span_id, parent.span_id, "{}", child.name);
        assert_eq!(child.trace_id, call.trace_id);
        let (from, to) = (child.start_time_unix_nano, child.end_time_unix_nano);
        assert!(
            parent.start_time_unix_nano <= from && from <= to,
            "{}",
            child.name
        );
        assert!(to <= call.end_time_unix_nano, "{}", child.name);
    }
    assert_eq!((call.trace_id.len(), call.span_id.len()), (16, 8));
    assert!(call.parent_span_id.is_empty());
    assert_eq!(attribute(call, "rouse.outcome"), "answered");
    assert_eq!(attribute(call, "sip.status"), "200");
    assert_eq!(attribute(by_name["push"], "rouse.result"), "push accepted");
    assert!(call.events.iter().any(|event| event.name == "hung-up"));
    let all = String::from_utf8_lossy(&body);
    for secret in ["1001", "2000@", "127.0.0.1", "0101"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
    rig.restart().await;
}

#[tokio::test]
async fn a_call_that_reached_nobody_is_a_failed_trace_with_numbers_where_they_are_wanted() {
    let (collector, url) = Collector::new().await;
    let more = format!("[otlp]\nendpoint = \"{url}/own/path\"\nnumbers = true\n");
    let rig = Rig::with("token_file = \"@DIR@/token\"", &more, 1).await;
    rig.sleeper("1001", 1).await;
    rig.apns
        .always(None, Some(Act::refuse(410, "Unregistered").into()));
    let mut call = rig.asterisk.call("1001", "2000").await.expect("an INVITE");
    call.wait_final().await.expect("480");
    let (head, body) = collector.post("200 OK").await;
    assert!(head.starts_with("POST /own/path "), "{head}");
    let spans = spans(&body);
    let of = |name: &str| spans.iter().find(|span| span.name == name).expect("a span");
    let is_failed = |span: &Span| span.status.as_ref().is_some_and(|status| status.code == 2);
    assert!(is_failed(of("call")) && is_failed(of("push")) && is_failed(of("wake")));
    assert_eq!(attribute(of("call"), "rouse.agent"), "1001@pbx.example.com");
    assert!(attribute(of("call"), "rouse.caller").contains("2000"));
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_no_call_and_is_counted() {
    let more = "[otlp]\nendpoint = \"http://127.0.0.1:9\"\n";
    let rig = Rig::with("token_file = \"@DIR@/token\"", more, 1).await;
    rig.sleeper("1001", 1).await;
    rig.apns
        .always(None, Some(Act::refuse(410, "Unregistered").into()));
    let mut call = rig.asterisk.call("1001", "2000").await.expect("an INVITE");
    assert!(call.wait_final().await.is_ok());
    let counted = "gateway_dropped_total{where=\"otlp\"} 1\n";
    let mut tries = 0;
    while !rig.get("/metrics").await.body.contains(counted) {
        tries += 1;
        assert!(tries < 200, "never counted");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
