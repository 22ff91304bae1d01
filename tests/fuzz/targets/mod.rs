//! What is fuzzed: for each target what must hold of any bytes at all. The stable runner
//! (tests/fuzz/main.rs) and cargo-fuzz (fuzz/fuzz_targets) both call these.

pub(crate) mod gateway;
pub(crate) mod syntax;
pub(crate) mod wire;

#[path = "../../sim/world.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "a scene needs more hands than chance does"
)]
mod world;

/// A target: it panics if what must hold does not.
pub(crate) type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub(crate) const TARGETS: [(&str, Target); 9] = [
    ("message", syntax::message),
    ("framing", syntax::framing),
    ("uri", syntax::uri),
    ("header", syntax::header),
    ("config", wire::config),
    ("push_reply", wire::push_reply),
    ("store_record", wire::store_record),
    ("websocket", wire::websocket),
    ("gateway", gateway::operations),
];

/// Cuts bytes where their first ones say: the pieces' sum is the rest.
fn cut(data: &[u8]) -> (Vec<u8>, Vec<&[u8]>) {
    let Some((&count, rest)) = data.split_first() else {
        return (Vec::new(), Vec::new());
    };
    let count = usize::from(count % 8).min(rest.len());
    let (cuts, stream) = rest.split_at(count);
    let mut at: Vec<_> = cuts
        .iter()
        .map(|cut| usize::from(*cut) * (stream.len() + 1) / 256)
        .collect();
    at.extend([0, stream.len()]);
    at.sort_unstable();
    let pieces = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
    (stream.to_vec(), pieces.collect())
}
