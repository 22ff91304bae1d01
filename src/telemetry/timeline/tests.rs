//! What the recorder remembers, says, and forgets.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::io::admin::view::{Outcome, Party};
use crate::proto::event::Asleep;
use crate::proto::push::{Pns, PushError, Reason};
use crate::proto::reject::Reject;
use crate::proto::{AorId, BindingId, ConnectionId, Flow, FlowId, ListenerId, Transport};

const KEEP: Keep = Keep {
    calls: 4,
    bytes: 1 << 20,
    notes: 3,
};

struct Desk {
    recorder: Recorder,
    now: Instant,
}

impl Desk {
    #[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
    fn new(keep: Keep) -> Self {
        let now = Instant::now();
        let anchor = ClockAnchor {
            instant: now,
            unix_ms: 1_700_000_000_000,
        };
        let recorder = Recorder::new(3, keep, anchor);
        Self { recorder, now }
    }

    fn tell(&mut self, after_ms: u64, event: Event) {
        self.now += Duration::from_millis(after_ms);
        self.recorder.record(self.now, &event);
    }

    fn step(&mut self, after_ms: u64, call: u64, step: Step) {
        let (call, key) = (CallNumber(call), key(1));
        self.tell(after_ms, Event::CallStep { call, key, step });
    }

    fn last(&self) -> CallStory {
        let page = self.recorder.calls(&CallQuery::default(), u64::MAX, 1);
        let id = u64::from_str_radix(&page[0].id, 16).unwrap();
        self.recorder.call(id).unwrap()
    }
}

fn key(binding: u64) -> BindingKey {
    BindingKey {
        aor: AorId(9),
        binding: BindingId(binding << 32),
    }
}

fn received(call: u64) -> Event {
    Event::CallReceived {
        call: CallNumber(call),
        caller: Bytes::from_static(b"sip:+4930123456@pbx.example.com"),
        call_id: format!("call-{call}").into(),
        aor: "1001@pbx.example.com".into(),
        devices: 1,
        asleep: 1,
    }
}

fn pushed(call: u64) -> Event {
    Event::WakeStarted {
        call: CallNumber(call),
        call_id: "one".into(),
        key: key(1),
        pns: Pns::Apns,
    }
}

fn accepted() -> Event {
    Event::PushAccepted {
        key: key(1),
        pns: Pns::Apns,
        notice: "call",
        after: Duration::from_millis(80),
        provider_id: "APNS-ID-1".into(),
    }
}

fn failed() -> Event {
    Event::PushFailed {
        key: key(1),
        pns: Pns::Apns,
        notice: "call",
        error: PushError::Unregistered {
            since_ms: None,
            reason: Reason::new("Unregistered"),
        },
    }
}

fn answered(call: u64, status: u16) -> Event {
    Event::CallAnswered {
        call: CallNumber(call),
        call_id: "one".into(),
        status,
        after: Duration::from_secs(3),
    }
}

fn flow() -> Flow {
    Flow {
        id: FlowId::Stream(ConnectionId(9)),
        listener: ListenerId(0),
        remote: "192.0.2.7:41234".parse().unwrap(),
        transport: Transport::Tls,
    }
}

fn registered(binding: u64, is_new: bool, is_moved: bool) -> Event {
    Event::Registered {
        key: key(binding),
        aor: "1001@pbx.example.com".into(),
        flow: flow(),
        expires: Duration::from_secs(600),
        is_new,
        is_moved,
    }
}

#[test]
fn a_woken_call_is_told_from_its_invite_to_its_answer() {
    let mut desk = Desk::new(KEEP);
    desk.tell(0, received(1));
    desk.step(0, 1, Step::Waits(Asleep::NoFlow));
    desk.tell(0, pushed(1));
    desk.tell(80, accepted());
    let woken = Event::Woken {
        call: CallNumber(1),
        call_id: "one".into(),
        key: key(1),
        after: Duration::from_millis(2100),
        flow: Some(flow()),
    };
    desk.tell(2020, woken);
    let forwarded = Event::CallForwarded {
        call: CallNumber(1),
        call_id: "one".into(),
        key: key(1),
        flow: flow().id,
    };
    desk.tell(0, forwarded);
    desk.step(50, 1, Step::Ringing(180));
    assert_eq!(desk.last().call.outcome, Outcome::UnderWay);
    assert_eq!(desk.last().call.summary, "device 00000001 rings");
    desk.step(3000, 1, Step::Answered(200));
    desk.tell(0, answered(1, 200));

    let story = desk.last();
    let kinds: Vec<(u64, &str)> = story.steps.iter().map(|s| (s.at_ms, &*s.kind)).collect();
    let expected = [
        (0, "received"),
        (0, "asleep"),
        (0, "pushed"),
        (80, "push-accepted"),
        (2100, "woken"),
        (2100, "forwarded"),
        (2150, "ringing"),
        (5150, "device-answered"),
        (5150, "answered"),
    ];
    assert_eq!(kinds, expected);
    let (call, steps) = (&story.call, &story.steps);
    assert_eq!(call.outcome, Outcome::Answered);
    assert_eq!(
        (call.status, call.after_ms, call.wake_ms),
        (Some(200), Some(5150), Some(2100))
    );
    assert_eq!(
        call.summary,
        "device 00000001 answered after 5.2 s; it was woken in 2.1 s"
    );
    assert_eq!(
        (&*call.agent, call.began_ms),
        ("1001@pbx.example.com", 1_700_000_000_000)
    );
    assert!(steps[3].text.contains("APNS-ID-1"), "{}", steps[3].text);
    assert!(
        steps[4].text.contains("192.0.2.7:41234 (tls)"),
        "{}",
        steps[4].text
    );
    assert_eq!((steps[4].from, steps[4].to), (Party::Device, Party::Rouse));
    assert_eq!(steps[1].device, Some(device_id(key(1))));
}

fn ended(call_id: &str, is_phone: bool) -> Event {
    let call_id = call_id.into();
    Event::CallEnded { call_id, is_phone }
}

#[test]
fn the_end_of_a_call_is_told_once_and_by_whom() {
    let mut desk = Desk::new(KEEP);
    desk.tell(0, received(1));
    // Before its answer, and of another call: nothing that is told.
    desk.tell(0, ended("call-1", true));
    desk.step(1000, 1, Step::Answered(200));
    desk.tell(0, answered(1, 200));
    desk.tell(10, ended("call-2", true));
    assert_eq!(desk.last().call.lasted_ms, None);
    desk.tell(33_990, ended("call-1", true));
    desk.tell(5, ended("call-1", false));
    let story = desk.last();
    assert_eq!(story.call.lasted_ms, Some(34_000));
    assert_eq!(story.call.outcome, Outcome::Answered);
    assert_eq!(
        story.call.summary,
        "device 00000001 answered after 1.0 s; ended after 34 s by the phone"
    );
    let step = story.steps.last().unwrap();
    assert_eq!((&*step.kind, &*step.label), ("hung-up", "BYE"));
    assert_eq!((step.from, step.to), (Party::Device, Party::Rouse));
    assert_eq!(step.device, Some(device_id(key(1))));
    let ends = story.steps.iter().filter(|step| step.kind == "hung-up");
    assert_eq!(ends.count(), 1);
    assert!(desk.recorder.talking.is_empty());
}

#[test]
fn a_call_that_was_refused_or_has_gone_out_of_the_ring_is_not_waited_for() {
    let mut desk = Desk::new(KEEP);
    for number in 0..20 {
        desk.tell(0, received(number));
        desk.step(10, number, Step::Answered(200));
        desk.tell(0, answered(number, if number % 2 == 0 { 200 } else { 486 }));
        assert!(desk.recorder.talking.len() <= KEEP.calls);
    }
    assert_eq!(desk.recorder.talking.len(), KEEP.calls / 2);
    // The last one of that name is meant, though the first is still in the ring.
    desk.tell(0, received(18));
    desk.step(10, 18, Step::Answered(200));
    desk.tell(0, answered(18, 200));
    desk.tell(90_000, ended("call-18", false));
    let call = desk.last().call;
    assert_eq!(call.lasted_ms, Some(90_000));
    let end = "ended after 1 min 30 s by the other side";
    assert!(call.summary.ends_with(end), "{}", call.summary);
    for number in 20..30 {
        desk.tell(0, received(number));
    }
    assert!(desk.recorder.talking.is_empty());
}

#[test]
fn a_call_that_reached_nobody_says_why() {
    let mut desk = Desk::new(KEEP);
    desk.tell(0, received(1));
    desk.tell(0, pushed(1));
    desk.tell(60, failed());
    desk.step(0, 1, Step::Failed(Reject::PushFailed));
    desk.tell(0, answered(1, 480));
    let dead = desk.last().call;
    assert_eq!(dead.outcome, Outcome::Unreachable);
    let why = "device 00000001 could not be woken: apns did not take the push: \
               the token is no longer registered (Unregistered)";
    assert_eq!(dead.summary, why);

    desk.tell(0, received(2));
    desk.tell(0, pushed(2));
    desk.tell(60, accepted());
    let timeout = Event::WakeTimedOut {
        call: CallNumber(2),
        call_id: "one".into(),
        key: key(1),
        after: Duration::from_secs(25),
    };
    desk.tell(24_940, timeout);
    desk.tell(0, answered(2, 480));
    let silent = desk.last().call;
    assert_eq!(silent.outcome, Outcome::Unreachable);
    let why = "device 00000001 was pushed, the push service took the push, \
               but the app did not register within 25.0 s";
    assert_eq!(silent.summary, why);
    // The device comes late, and is told that the call is over.
    for step in [Step::CameLate, Step::Ringing(180), Step::Answered(487)] {
        desk.step(10, 2, step);
    }
    assert_eq!(desk.last().call, silent);
}

#[test]
fn a_callers_word_and_a_phones_word_make_the_outcome() {
    let rang = Step::Ringing(180);
    let busy = [rang, Step::Answered(486)];
    let cases = [
        (&[rang][..], Some(false), 487, Outcome::Cancelled, "hung up"),
        (
            &[],
            Some(true),
            487,
            Outcome::AnsweredElsewhere,
            "somebody else",
        ),
        (&busy, None, 486, Outcome::Declined, "486 Busy Here"),
        (&[rang], None, 408, Outcome::Unanswered, "nobody answered"),
    ];
    for (number, (steps, cancelled, status, outcome, word)) in (1..).zip(cases) {
        let mut desk = Desk::new(KEEP);
        desk.tell(0, received(number));
        for step in steps {
            desk.step(10, number, *step);
        }
        if let Some(is_elsewhere) = cancelled {
            let call = CallNumber(number);
            desk.tell(10, Event::CallCancelled { call, is_elsewhere });
        }
        desk.tell(0, answered(number, status));
        let call = desk.last().call;
        assert_eq!(call.outcome, outcome);
        assert!(call.summary.contains(word), "{}", call.summary);
    }
}

#[test]
fn a_call_for_an_agent_without_a_device_is_told_too() {
    let mut desk = Desk::new(KEEP);
    let refused = Event::CallRefused {
        call_id: "one".into(),
        user: "1009".into(),
        caller: Bytes::from_static(b"sip:2000@pbx.example.com"),
        reject: Reject::UnknownAgent,
    };
    desk.recorder.collect(true);
    desk.tell(0, refused);
    let call = desk.last().call;
    assert_eq!((call.outcome, call.status), (Outcome::Refused, Some(404)));
    assert_eq!(call.summary, "nobody has registered that agent here");
    assert_eq!(desk.recorder.take_ended().count(), 1);
    assert!(desk.recorder.by_number.is_empty());
}

#[test]
fn a_call_is_collected_once_when_it_is_over_with_its_end() {
    let mut desk = Desk::new(KEEP);
    desk.recorder.collect(true);
    for (number, status) in [(1, 200), (2, 486), (3, 200)] {
        desk.tell(0, received(number));
        desk.step(10, number, Step::Answered(status));
        desk.tell(0, answered(number, status));
    }
    let names = |calls: Vec<CallStory>| -> Vec<(String, Option<u64>)> {
        let calls = calls.into_iter().map(|story| story.call);
        calls.map(|call| (call.call_id, call.lasted_ms)).collect()
    };
    let over: Vec<CallStory> = desk.recorder.take_ended().collect();
    assert_eq!(names(over), [("call-2".to_owned(), None)]);
    desk.tell(5_000, ended("call-1", true));
    desk.tell(0, ended("call-1", false));
    let over: Vec<CallStory> = desk.recorder.take_ended().collect();
    assert_eq!(
        over[0].steps.last().map(|step| &*step.kind),
        Some("hung-up")
    );
    let call = ("call-1".to_owned(), Some(5_010 + 10));
    assert_eq!(names(over), [call]);
    // The third goes on: told as it is when the process ends, and not again.
    assert_eq!(
        names(desk.recorder.take_talking()),
        [("call-3".to_owned(), None)]
    );
    assert!(desk.recorder.take_talking().is_empty());
}

#[test]
fn a_call_whose_end_nobody_sees_is_collected_after_hours_or_when_it_is_forgotten() {
    let mut desk = Desk::new(KEEP);
    desk.recorder.collect(true);
    let answer = |desk: &mut Desk, number| {
        desk.tell(0, received(number));
        desk.step(10, number, Step::Answered(200));
        desk.tell(0, answered(number, 200));
        desk.recorder.take_ended().count()
    };
    assert_eq!(answer(&mut desk, 1), 0);
    desk.now += LONGEST_TALK;
    assert_eq!(answer(&mut desk, 2), 1, "the first");
    for number in 3..6 {
        assert_eq!(answer(&mut desk, number), 0);
    }
    assert_eq!(answer(&mut desk, 6), 1, "the second, for want of room");
    desk.tell(0, ended("call-6", true));
    assert_eq!(desk.recorder.take_ended().count(), 1);
    // Nobody takes them: none is made.
    desk.recorder.collect(false);
    for number in 7..20 {
        assert_eq!(answer(&mut desk, number), 0);
    }
}

#[test]
fn a_verdict_is_told_to_each_call_that_shares_the_push() {
    let mut desk = Desk::new(KEEP);
    desk.tell(0, received(1));
    desk.tell(0, pushed(1));
    desk.tell(5, received(2));
    desk.step(0, 2, Step::Joined);
    desk.tell(60, accepted());
    // The push has had its verdict: who joins the wake now waits for none.
    desk.tell(5, received(3));
    desk.step(0, 3, Step::Joined);
    assert!(desk.recorder.pushed.is_empty());
    let calls = desk.recorder.calls(&CallQuery::default(), u64::MAX, 9);
    let has_verdict = |brief: &CallBrief| {
        let id = u64::from_str_radix(&brief.id, 16).unwrap();
        let story = desk.recorder.call(id).unwrap();
        story.steps.iter().any(|step| step.kind == "push-accepted")
    };
    let verdicts: Vec<bool> = calls.iter().map(has_verdict).collect();
    assert_eq!(verdicts, [false, true, true]);
}

#[test]
fn the_oldest_call_goes_and_takes_its_number_with_it() {
    let mut desk = Desk::new(KEEP);
    for number in 1..=6 {
        desk.tell(1, received(number));
        desk.tell(1, answered(number, 200));
    }
    let calls = desk.recorder.calls(&CallQuery::default(), u64::MAX, 9);
    let ids: Vec<&str> = calls.iter().map(|call| &*call.call_id).collect();
    assert_eq!(ids, ["call-6", "call-5", "call-4", "call-3"]);
    assert_eq!(desk.recorder.by_number.len(), 4);
    // A late word about one that is forgotten changes no other.
    desk.step(1, 1, Step::CameLate);
    assert!(desk.recorder.calls.iter().all(|call| call.steps.len() == 2));
    let real: usize = desk.recorder.calls.iter().map(Call::bytes).sum();
    assert_eq!(desk.recorder.bytes, real);
}

#[test]
fn no_more_bytes_are_kept_than_allowed() {
    let mut desk = Desk::new(Keep {
        calls: 1000,
        bytes: 20_000,
        notes: 0,
    });
    for number in 1..=200 {
        desk.tell(1, received(number));
        for _ in 0..200 {
            desk.step(1, number, Step::Ringing(180));
        }
        let real: usize = desk.recorder.calls.iter().map(Call::bytes).sum();
        assert_eq!(desk.recorder.bytes, real);
        assert!(real < 40_000, "{real}");
    }
    let story = desk.last();
    assert_eq!((story.steps.len(), story.omitted), (96, 105));
}

#[test]
fn calls_are_found_by_agent_number_and_outcome_page_by_page() {
    let mut desk = Desk::new(KEEP);
    for number in 1..=4 {
        desk.tell(0, received(number));
        let status = if number % 2 == 0 { 200 } else { 480 };
        desk.tell(0, answered(number, status));
    }
    let find =
        |query: CallQuery, before: u64, limit: usize| desk.recorder.calls(&query, before, limit);
    let by = |agent: Option<&str>, number: Option<&str>, outcome| CallQuery {
        agent: agent.map(str::to_owned),
        number: number.map(str::to_owned),
        outcome,
        ..CallQuery::default()
    };
    assert_eq!(find(by(Some("1001"), None, None), u64::MAX, 9).len(), 4);
    assert_eq!(find(by(Some("1002"), None, None), u64::MAX, 9).len(), 0);
    assert_eq!(find(by(None, Some("30123"), None), u64::MAX, 9).len(), 4);
    assert_eq!(
        find(by(None, None, Some(Outcome::Answered)), u64::MAX, 9).len(),
        2
    );
    let first = find(by(None, None, None), u64::MAX, 3);
    let before = u64::from_str_radix(&first[2].id, 16).unwrap();
    let second = find(by(None, None, None), before, 3);
    assert_eq!((first.len(), second.len()), (3, 1));
    assert_eq!(second[0].call_id, "call-1");
}

#[test]
fn names_are_unique_and_grow_whatever_the_clock_does() {
    let mut desk = Desk::new(KEEP);
    let mut last = 0;
    for round in 0..2000 {
        let unix_ms = 1_700_000_000_000 + round / 900;
        let id = desk.recorder.next_id(unix_ms);
        assert!(id > last, "{id:x} after {last:x}");
        assert_eq!(id >> 8 & 0xff, 3, "{id:x}");
        last = id;
    }
}

#[test]
fn a_device_is_told_of_what_changed_and_not_of_each_refresh() {
    let mut desk = Desk::new(KEEP);
    desk.tell(0, registered(1, true, true));
    desk.tell(10, registered(1, false, false));
    let aor: Box<str> = "1001@pbx.example.com".into();
    desk.tell(10, Event::Asleep { key: key(1), aor });
    desk.tell(10, failed());
    let notes = desk.recorder.notes_of(key(1), 9);
    let kinds: Vec<&str> = notes.iter().map(|note| &*note.kind).collect();
    assert_eq!(kinds, ["registered", "asleep", "push-failed"]);
    let [push, other] = &desk.recorder.last_pushes(&[key(1), key(2)])[..] else {
        panic!("two")
    };
    assert_eq!(
        push.as_ref().map(|push| &*push.verdict),
        Some("unregistered")
    );
    assert!(other.is_none());
    desk.tell(10, registered(2, true, true));
    assert_eq!(
        desk.recorder.notes_of(key(1), 9).len(),
        2,
        "three are kept in all"
    );
}

#[test]
fn those_who_follow_hear_each_step_and_nobody_else_pays() {
    let mut desk = Desk::new(KEEP);
    desk.tell(0, received(1));
    assert_eq!(desk.recorder.take_live().count(), 0);
    desk.recorder.follow(true);
    desk.step(5, 1, Step::Ringing(180));
    desk.tell(5, registered(1, true, true));
    let live: Vec<Live> = desk.recorder.take_live().collect();
    assert!(
        matches!(&live[0], Live::Call { step, .. } if step.kind == "ringing"),
        "{live:?}"
    );
    assert!(
        matches!(&live[1], Live::Device { note, .. } if note.kind == "registered"),
        "{live:?}"
    );
    assert_eq!(live.len(), 2);
}

#[test]
fn nothing_is_kept_where_nothing_shall_be() {
    let mut desk = Desk::new(Keep {
        calls: 0,
        bytes: 1 << 20,
        notes: 0,
    });
    desk.tell(0, received(1));
    desk.tell(0, registered(1, true, true));
    assert!(desk.recorder.calls.is_empty() && desk.recorder.notes.is_empty());
}
