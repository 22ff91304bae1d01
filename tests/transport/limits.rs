//! Those who connect and do not behave.

use std::time::{Duration, Instant};

use rouse::io::transport::TransportLimits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::rig::{OPTIONS, Rig, Wanted, read_to_end};

const SHORT: Duration = Duration::from_millis(300);

fn rig(limits: TransportLimits) -> Rig {
    Rig::start(Wanted {
        limits,
        ..Wanted::default()
    })
}

#[tokio::test]
async fn a_message_that_trickles_is_cut_off() {
    let rig = rig(TransportLimits {
        message: SHORT,
        ..TransportLimits::default()
    });
    let phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    let (mut reading, mut writing) = phone.into_split();
    let start = Instant::now();
    let trickle = tokio::spawn(async move {
        for byte in OPTIONS.as_bytes() {
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    read_to_end(&mut reading).await;
    let lasted = start.elapsed();
    assert!(lasted >= SHORT && lasted < SHORT * 3, "{lasted:?}");
    assert_eq!(rig.counts.closed.idle.get(), 1);
    trickle.abort();
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let rig = rig(TransportLimits {
        silent: SHORT,
        ..TransportLimits::default()
    });
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    assert_eq!(read_to_end(&mut phone).await, b"");
    assert_eq!(rig.counts.closed.idle.get(), 1);
}

#[tokio::test]
async fn a_registered_phone_may_sleep_on_its_connection() {
    let mut rig = rig(TransportLimits {
        silent: SHORT,
        unbound: SHORT,
        ..TransportLimits::default()
    });
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = rig.message().await;
    assert!(rig.network.bind_flow(flow.id, 0));
    tokio::time::sleep(SHORT * 3).await;
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    rig.message().await;
    rig.network.unbind_flow(flow.id, 0);
    assert_eq!(read_to_end(&mut phone).await, b"");
}

#[tokio::test]
async fn one_address_gets_so_many_connections_without_an_agent() {
    let mut rig = rig(TransportLimits {
        connections_per_address: 1,
        ..TransportLimits::default()
    });
    let mut first = TcpStream::connect(rig.addresses[0]).await.unwrap();
    first.write_all(OPTIONS.as_bytes()).await.unwrap();
    rig.message().await;
    let mut second = TcpStream::connect(rig.addresses[0]).await.unwrap();
    assert_eq!(read_to_end(&mut second).await, b"");
    assert_eq!(rig.counts.refused.address.get(), 1);
    // A phone that has registered does not count: many share the address of their office.
    first.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = rig.message().await;
    assert!(rig.network.bind_flow(flow.id, 0));
    let mut third = TcpStream::connect(rig.addresses[0]).await.unwrap();
    third.write_all(OPTIONS.as_bytes()).await.unwrap();
    rig.message().await;
}

#[tokio::test]
async fn a_full_house_closes_a_stranger_for_a_newcomer() {
    let mut rig = rig(TransportLimits {
        connections: 2,
        ..TransportLimits::default()
    });
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    rig.message().await;
    let mut stranger = TcpStream::connect(rig.addresses[0]).await.unwrap();
    while rig.network.connections() < 2 {
        tokio::task::yield_now().await;
    }
    let mut newcomer = TcpStream::connect(rig.addresses[0]).await.unwrap();
    newcomer.write_all(OPTIONS.as_bytes()).await.unwrap();
    rig.message().await;
    assert_eq!(read_to_end(&mut stranger).await, b"");
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    rig.message().await;
}
