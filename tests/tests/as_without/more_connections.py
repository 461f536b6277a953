"""More cases of connections: what sockets do that few programs ask of them."""

import ctypes
import errno
import select
import socket
import struct
import time

from __main__ import (
    LISTENS_ON,
    WAIT,
    client,
    connect,
    connect_outcome,
    digest,
    error_name,
    read_all,
    read_exactly,
    reset,
    server,
)

MEGABYTE = bytes(range(256)) * 4096


def echo(connection, _peer):
    connection.sendall(read_exactly(connection, 5))


def blocking_socket():
    """One that waits in the kernel, not in Python, which has all its sockets non-blocking."""
    connection = socket.socket()
    limit = struct.pack("ll", WAIT, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return connection


def echoed(connection):
    connection.sendall(b"hello")
    return read_exactly(connection, 5).decode()


@server
def fast_open(connection, peer):
    echo(connection, peer)


@client
def fast_open(to):
    """Data that goes with the first packet (RFC 7413), by either interface."""
    seen = {}
    for turn in range(2):
        with blocking_socket() as connection:
            connection.sendto(b"hello", socket.MSG_FASTOPEN, (to.ipv4, to.port))
            seen["sendto-%d" % turn] = read_exactly(connection, 5).decode()
        with blocking_socket() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, 30, 1)
            connection.connect((to.ipv4, to.port))
            seen["option-%d" % turn] = echoed(connection)
            seen["peer-%d" % turn] = connection.getpeername()[0]
    return seen


@client
def nobody_listens_for_fast_open(to):
    with blocking_socket() as connection:
        try:
            connection.sendto(b"hello", socket.MSG_FASTOPEN, (to.ipv4, to.port))
            return {"outcome": connection.recv(1).decode()}
        except OSError as error:
            return {"outcome": error_name(error)}


@server
def same_socket_again(connection, peer):
    echo(connection, peer)


@client
def same_socket_again(to):
    """A socket that was refused may connect again, as some clients do with their list."""
    connection = blocking_socket()
    first = connection.connect_ex((to.ipv4, 1))
    second = connection.connect_ex((to.ipv4, to.port))
    if second:
        return {"first": errno.errorcode[first], "second": errno.errorcode[second]}
    return {"first": errno.errorcode[first], "echo": echoed(connection),
            "peer": connection.getpeername()[0]}


@server
def socket_that_is_dissolved(connection, peer):
    echo(connection, peer)


@client
def socket_that_is_dissolved(to):
    """connect() to AF_UNSPEC ends a connection, and the socket may have another."""
    libc = ctypes.CDLL(None, use_errno=True)
    connection = blocking_socket()
    connection.connect((to.ipv4, to.port))
    first = echoed(connection)
    unspec = (ctypes.c_uint16 * 8)(0)
    outcome = libc.connect(connection.fileno(), ctypes.byref(unspec), 16)
    connection.connect((to.ipv4, to.port))
    return {"first": first, "outcome": outcome, "second": echoed(connection),
            "peer": connection.getpeername()[0]}


@server
def connect_without_waiting(connection, peer):
    echo(connection, peer)


@client
def connect_without_waiting(to):
    connection = socket.socket()
    connection.setblocking(False)
    outcome = connection.connect_ex((to.ipv4, to.port))
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    events = poll.poll(WAIT * 1000)
    error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    again = connection.connect_ex((to.ipv4, to.port))
    third = connection.connect_ex((to.ipv4, to.port))
    connection.settimeout(WAIT)
    return {"outcome": errno.errorcode.get(outcome), "events": len(events), "outcome_later": error,
            "again": errno.errorcode.get(again, again), "third": errno.errorcode.get(third, third),
            "echo": echoed(connection)}


@client
def nobody_listens_without_waiting(to):
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex((to.ipv4, to.port))
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    events = poll.poll(WAIT * 1000)
    error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    bits = events[0][1] if events else 0
    return {"hang_up": bool(bits & select.POLLHUP), "in_error": bool(bits & select.POLLERR),
            "outcome": errno.errorcode.get(error)}


@server
def sends_and_goes(connection, _peer):
    received, end = read_all(connection)
    return {"received": digest(received), "end": end}


@client
def sends_and_goes(to):
    connection = connect(to)
    connection.sendall(MEGABYTE)
    connection.close()
    return {}


@server
def goes_with_bytes_unread(connection, _peer):
    connection.sendall(b"x" * 1000)
    connection.settimeout(WAIT)
    received, end = read_all(connection)
    return {"received": len(received), "end": end}


@client
def goes_with_bytes_unread(to):
    """The kernel resets a connection that is closed with bytes unread."""
    connection = connect(to)
    connection.sendall(b"hello")
    time.sleep(0.3)
    connection.close()
    return {}


@server
def server_goes_with_bytes_unread(connection, _peer):
    read_exactly(connection, 5)
    connection.sendall(b"answer")
    time.sleep(0.3)


@client
def server_goes_with_bytes_unread(to):
    connection = connect(to)
    connection.sendall(b"hello" + b"more")
    answer = read_exactly(connection, 6)
    _rest, end = read_all(connection)
    return {"answer": answer.decode(), "end": end}


@server
def server_ends_at_once(_connection, _peer):
    return None


@client
def server_ends_at_once(to):
    return {"end": read_all(connect(to))[1]}


@server
def server_resets_at_once(connection, _peer):
    time.sleep(0.1)
    reset(connection)


@client
def server_resets_at_once(to):
    return {"end": read_all(connect(to))[1]}


@server
def writes_to_who_is_gone(connection, _peer):
    connection.recv(1)
    connection.close()


@client
def writes_to_who_is_gone(to):
    connection = connect(to)
    connection.sendall(b"x")
    end = read_all(connection)[1]
    outcome = "sent"
    for _ in range(5):
        try:
            connection.sendall(b"y")
        except OSError as error:
            outcome = error_name(error)
            break
        time.sleep(0.2)
    return {"end": end, "outcome": outcome}


@server
def source_port(connection, peer):
    connection.sendall(b"%05d" % peer[1])


@client
def source_port(to):
    """What the server says of the client's port, chosen by the kernel or bound."""
    seen = {}
    for name, port in (("any", None), ("privileged", 1011)):
        with socket.socket() as connection:
            connection.settimeout(WAIT)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if port:
                connection.bind(("", port))
            connection.connect((to.ipv4, to.port))
            told = int(read_exactly(connection, 5))
            seen[name] = told == connection.getsockname()[1]
            reset(connection)
        if port:
            seen["same"] = told == port
    return seen


@server
def bound_to_a_device(connection, peer):
    echo(connection, peer)


@client
def bound_to_a_device(to):
    connection = socket.socket()
    connection.settimeout(WAIT)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    connection.connect((to.ipv4, to.port))
    return {"echo": echoed(connection)}


@client
def own_addresses(to):
    """A pod that connects to itself, by all its addresses."""
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    port = listener.getsockname()[1]
    own = []
    for family, remote in ((socket.AF_INET, to.ipv4), (socket.AF_INET6, to.ipv6)):
        with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect((remote, 9))
            own.append(datagrams.getsockname()[0])
    seen = {}
    names = {own[0]: "own", own[1]: "own6"}
    for address in ["127.0.0.1", "127.0.0.9", "0.0.0.0", "::1", "::", *own]:
        with socket.create_connection((address, port), WAIT) as connection:
            accepted, peer = listener.accept()
            accepted.sendall(b"hello")
            text = read_exactly(connection, 5).decode()
            local = connection.getsockname()
            seen[names.get(address, address)] = [
                text,
                peer[1] == local[1],
                peer[0].removeprefix("::ffff:") == local[0],
                connection.getpeername()[0] == address or address in ("0.0.0.0", "::"),
            ]
            accepted.close()
    return seen


LISTENS_ON["listens_on_loopback_only"] = "::ffff:127.0.0.1"
LISTENS_ON["listens_on_ipv4_only"] = "::ffff:0.0.0.0"


@client
def listens_on_loopback_only(to):
    return {"ipv4": connect_outcome(to.ipv4, to.port), "ipv6": connect_outcome(to.ipv6, to.port)}


@client
def listens_on_ipv4_only(to):
    return {"ipv4": connect_outcome(to.ipv4, to.port), "ipv6": connect_outcome(to.ipv6, to.port)}


@server
def many_at_once(connection, peer):
    echo(connection, peer)


@client
def many_at_once(to):
    connections = []
    for _ in range(100):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((to.ipv4, to.port))
        connections.append(connection)
    answers = 0
    for connection in connections:
        connection.settimeout(WAIT)
        try:
            answers += echoed(connection) == "hello"
        except OSError as error:
            return {"answers": answers, "failed": error_name(error)}
    return {"answers": answers}


@server
def reads_nothing_for_a_while(connection, _peer):
    time.sleep(1.5)
    received, end = read_all(connection)
    return {"received": digest(received), "end": end}


@client
def reads_nothing_for_a_while(to):
    """What was sent arrives, although the client is gone before the server reads."""
    connection = connect(to)
    connection.sendall(MEGABYTE[:200_000])
    connection.close()
    return {}


@server
def half_close_each(connection, _peer):
    connection.shutdown(socket.SHUT_WR)
    received, end = read_all(connection)
    return {"received": digest(received), "end": end}


@client
def half_close_each(to):
    connection = connect(to)
    received, end = read_all(connection)
    connection.sendall(MEGABYTE)
    connection.shutdown(socket.SHUT_WR)
    time.sleep(0.2)
    return {"received": len(received), "end": end}


@server
def shut_for_reading(connection, _peer):
    connection.sendall(b"x")
    time.sleep(0.3)
    connection.sendall(b"y")
    received, end = read_all(connection)
    return {"received": received.decode(), "end": end}


@client
def shut_for_reading(to):
    connection = connect(to)
    connection.shutdown(socket.SHUT_RD)
    time.sleep(0.6)
    connection.sendall(b"z")
    connection.shutdown(socket.SHUT_WR)
    time.sleep(0.3)
    connection.close()
    return {}


@server
def no_linger_with_data(connection, _peer):
    received, end = read_all(connection)
    return {"end": end}


@client
def no_linger_with_data(to):
    connection = connect(to)
    connection.sendall(b"x" * 100_000)
    reset(connection)
    return {}
