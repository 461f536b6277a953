//! Applications that have the proxy's usual ports: they hinder no capture, and get nothing that
//! isn't theirs.

use std::net::{SocketAddr, TcpListener};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Socket, Type};
use weft_model::mtls::MtlsMode;
use weft_model::ports::{HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};

use crate::lab::{Captured, Lab, Pod, accept, address, dial, isolated};

const PORTS: [u16; 3] = [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, HBONE_PORT];

/// An application's listener, with the options of servers.
fn listen(at: SocketAddr, reuse_port: bool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&at.into())?;
    socket.listen(16)?;
    Ok(socket.into())
}

#[test]
fn no_port_that_an_application_has_taken_hinders_the_capture() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let peer = lab.pod(99);
        let places = [
            vec!["127.0.0.1", "::1"],
            vec!["127.0.0.1", "127.0.0.7"],
            vec!["0.0.0.0"],
            vec!["::"],
            // The pod's own.
            vec![],
        ];
        for (number, places) in (10..).zip(places) {
            let reuse_port = number % 2 == 0;
            let pod = lab.pod(number);
            let mut at: Vec<_> = places.iter().map(|ip| ip.parse().unwrap()).collect();
            if at.is_empty() {
                at.extend(pod.addresses());
            }
            let taken: Vec<_> = at
                .iter()
                .flat_map(|ip| PORTS.map(|port| SocketAddr::new(*ip, port)))
                .map(|at| pod.run(|| listen(at, reuse_port)).unwrap())
                .collect();
            let captured = Captured::new(&redirect, pod, MtlsMode::Strict, &[]);
            for to in ["10.77.1.2:80", "[fd77::2]:80"].map(address) {
                let (client, destination) = captured.dial(to);
                assert_eq!(destination.unwrap(), to, "{at:?}");
                assert_eq!(client.peer_addr().unwrap(), to, "{at:?}");
                let own = client.local_addr().unwrap().ip();
                assert!(captured.pod.addresses().contains(&own), "{own}");
            }
            for (family, ip) in captured.pod.addresses().into_iter().enumerate() {
                let _plaintext = peer.run(|| dial((ip, 80).into())).unwrap();
                accept(&captured.listeners.plaintext[family]);
                let _hbone = peer.run(|| dial((ip, HBONE_PORT).into())).unwrap();
                accept(&captured.listeners.hbone[family]);
            }
            // The application still has what is its own.
            let local = taken[0].local_addr().unwrap();
            if local.ip().is_loopback() {
                captured.pod.run(|| dial(local)).unwrap();
                accept(&taken[0]);
            }
            for taken in taken {
                taken.set_nonblocking(true).unwrap();
                let stray = taken.accept();
                assert!(stray.is_err(), "handed to the application: {stray:?}");
            }
        }
    });
}

/// Listeners of another user on every port of the proxy's and every address, as many as the
/// kernel lets it have.
fn stolen(pod: &Pod) -> Vec<TcpListener> {
    let places = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::"];
    let all = places.map(|ip| PORTS.map(|port| SocketAddr::new(ip.parse().unwrap(), port)));
    std::thread::scope(|scope| {
        let thief = scope.spawn(|| {
            setns(&pod.namespace, CloneFlags::CLONE_NEWNET).unwrap();
            // SAFETY: of this thread alone, which ends with this closure; takes numbers.
            let result = unsafe { libc::syscall(libc::SYS_setresuid, 12_345, 12_345, 12_345) };
            assert_eq!(result, 0);
            let listen = |at: &SocketAddr| listen(*at, true).ok();
            all.as_flattened().iter().filter_map(listen).collect()
        });
        thief.join().unwrap()
    })
}

#[test]
fn an_application_cannot_share_a_port_of_the_proxys() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        let stolen = stolen(&captured.pod);
        for to in ["10.77.1.2:80", "10.77.1.3:81", "[fd77::2]:80"].map(address) {
            for _ in 0..20 {
                let (_, destination) = captured.dial(to);
                assert_eq!(destination.unwrap(), to);
            }
        }
        let peer = lab.pod(20);
        for (family, ip) in captured.pod.addresses().into_iter().enumerate() {
            let _plaintext = peer.run(|| dial((ip, 80).into())).unwrap();
            accept(&captured.listeners.plaintext[family]);
            let _hbone = peer.run(|| dial((ip, HBONE_PORT).into())).unwrap();
            accept(&captured.listeners.hbone[family]);
        }
        for listener in stolen {
            listener.set_nonblocking(true).unwrap();
            let at = listener.local_addr().unwrap();
            assert!(listener.accept().is_err(), "handed to {at}");
        }
    });
}
