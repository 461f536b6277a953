//! Many connections at once.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use weft_model::mtls::MtlsMode;

use crate::lab::{Captured, Lab, dial, isolated};

const THREADS: u8 = 8;
const EACH: u8 = 250;

/// The proxy answers every captured connection with the destination that it learned.
fn answer(captured: &Captured, stop: &AtomicBool) {
    let listener = &captured.listeners.outbound[0];
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut accepted, _)) = listener.accept() else {
            std::thread::yield_now();
            continue;
        };
        let destination = captured.destination(&accepted).unwrap();
        accepted
            .write_all(destination.to_string().as_bytes())
            .unwrap();
    }
}

#[test]
fn two_thousand_connections_at_once_keep_their_destinations_apart() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let pods =
            [10, 20].map(|number| Captured::new(&redirect, lab.pod(number), MtlsMode::Strict, &[]));
        let stop = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            for captured in &pods {
                scope.spawn(|| answer(captured, &stop));
            }
            let clients: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let pod = &pods[usize::from(thread) % pods.len()].pod;
                    scope.spawn(move || {
                        // All are open before the first is read.
                        let open: Vec<(SocketAddr, TcpStream)> = (0..EACH)
                            .map(|number| {
                                let to = Ipv4Addr::new(10, 78, thread, number);
                                let to = SocketAddr::new(to.into(), 1000 + u16::from(number));
                                (to, pod.run(|| dial(to)).unwrap())
                            })
                            .collect();
                        open.into_iter().map(check).collect::<Vec<_>>()
                    })
                })
                .collect();
            let seen = clients
                .into_iter()
                .flat_map(|client| client.join().unwrap());
            let seen: HashSet<_> = seen.collect();
            stop.store(true, Ordering::Relaxed);
            seen
        });
        assert_eq!(seen.len(), usize::from(THREADS) * usize::from(EACH));
    });
}

/// What the proxy says is what was dialled, and so is what the kernel says.
fn check((dialled, mut client): (SocketAddr, TcpStream)) -> SocketAddr {
    assert_eq!(client.peer_addr().unwrap(), dialled);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, dialled.to_string());
    dialled
}
