//! Configurations of servers, and sources of clients.

use std::fs;
use std::path::Path;

const FILES: &[(&str, &str)] = &[
    ("Asks.java", include_str!("files/Asks.java")),
    ("GrpcCalls.java", include_str!("files/GrpcCalls.java")),
    ("amqp.py", include_str!("files/amqp.py")),
    ("apache.conf", include_str!("files/apache.conf")),
    ("asks.go", include_str!("files/asks.go")),
    ("asks.js", include_str!("files/asks.js")),
    ("asks.py", include_str!("files/asks.py")),
    ("ftp_active.py", include_str!("files/ftp_active.py")),
    ("grpc_calls.py", include_str!("files/grpc_calls.py")),
    ("h2spec.py", include_str!("files/h2spec.py")),
    ("haproxy.cfg", include_str!("files/haproxy.cfg")),
    ("nginx.conf", include_str!("files/nginx.conf")),
    ("nginx_proxy.conf", include_str!("files/nginx_proxy.conf")),
    ("postfix_main.cf", include_str!("files/postfix_main.cf")),
    ("postfix_master.cf", include_str!("files/postfix_master.cf")),
    ("ssh_config", include_str!("files/ssh_config")),
    ("websocket.py", include_str!("files/websocket.py")),
];

/// Writes them all to a new folder.
pub(crate) fn write(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for (name, text) in FILES {
        fs::write(folder.join(name), text).unwrap();
    }
}
