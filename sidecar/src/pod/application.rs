//! The sockets of the others in the pod, by the users that have them: as long as there are any, an
//! application may need the proxy.

/// A socket that is closed already, in the kernel's list (`net/tcp_states.h`, TCP_TIME_WAIT).
const TIME_WAIT: &str = "06";

/// Somebody else than the proxy's user has a TCP socket here. What can't be read counts as none.
pub(crate) fn has_application_sockets(proxy_uid: u32) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter();
    let tables = tables.filter_map(|path| std::fs::read_to_string(path).ok());
    tables.into_iter().any(|table| is_in(&table, proxy_uid))
}

/// Of the kernel's list: number, local and remote address, state, queues, timer,
/// retransmissions, user, timeouts, inode (proc_net_tcp.rst). The inode is 0 where nobody holds the
/// socket any more: it waits for the other end alone, whoever had it, and its user is given as root.
fn is_in(table: &str, proxy_uid: u32) -> bool {
    let is_others = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(3);
        let state = fields.next()?;
        let user: u32 = fields.nth(3)?.parse().ok()?;
        let is_held = fields.nth(1)? != "0";
        Some(is_held && state != TIME_WAIT && user != proxy_uid)
    };
    table.lines().skip(1).filter_map(is_others).any(|one| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_others_count_unless_they_are_closed() {
        let table = |state: &str, user: u32| {
            format!(
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                 0: 0100007F:3A99 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {user}        0 1\n"
            )
        };
        assert!(is_in(&table("0A", 1000), 1337));
        assert!(!is_in(&table("0A", 1337), 1337));
        assert!(!is_in(&table("06", 0), 1337));
        assert!(!is_in("", 1337));
        // Closed by its holder, and not yet by the other end (FIN_WAIT2).
        let orphan = table("05", 0).replace(" 0 1\n", " 0 0\n");
        assert!(!is_in(&orphan, 1337));
        assert!(is_in(&table("05", 1000), 1337));
    }
}
