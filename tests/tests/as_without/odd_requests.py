"""Still more cases of requests: servers that answer unasked or reset, syntax that few use."""

import time

from __main__ import OK, Reader, client, connect, exchange, read_all, reset, server
from more_requests import NO_BODY, in_turn, request, response, statuses, upgrade


@server
def answers_unasked(connection, _peer):
    """As one does that is too busy, and closes without having read anything."""
    connection.sendall(response(b"503 Busy", b"Connection: close\r\nContent-Length: 4\r\n", b"busy"))


@client
def answers_unasked(to):
    connection = connect(to)
    time.sleep(0.2)
    connection.sendall(request(b"GET").replace(b"$HOST", b"a"))
    answer = Reader(connection).message(is_response=True)
    return {"start": answer["start"], "body": answer["body"]}


def cut_off(connection, _peer):
    """Resets the connection when all that was sent has certainly arrived."""
    head = Reader(connection).message()["start"]
    if "/chunks" in head:
        connection.sendall(response(fields=b"Transfer-Encoding: chunked\r\n", body=b"4\r\npart\r\n"))
    else:
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\npart")
    time.sleep(0.3)
    reset(connection)


@server
def response_that_is_reset(connection, peer):
    return cut_off(connection, peer)


@client
def response_that_is_reset(to):
    connection = connect(to)
    connection.sendall(request(b"GET", b"/chunks").replace(b"$HOST", b"a"))
    reader = Reader(connection)
    reader.head()
    body, end = reader.to_end()
    return {"body": body, "end": end}


@server
def open_response_that_is_reset(connection, peer):
    return cut_off(connection, peer)


@client
def open_response_that_is_reset(to):
    """Whose end is that of its connection: a reset is all that tells a part from the whole."""
    connection = connect(to)
    connection.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    received, end = read_all(connection)
    return {"body": received.split(b"\r\n\r\n")[1].decode(), "end": end}


SMALL_CHUNKS = b"".join(b"1;n=%d\r\nx\r\n" % number for number in range(1000)) + b"0\r\n\r\n"

in_turn(
    "many_small_chunks",
    [
        (
            request(b"POST", fields=b"Transfer-Encoding: chunked\r\n", body=SMALL_CHUNKS),
            response(fields=b"Transfer-Encoding: chunked\r\n", body=SMALL_CHUNKS),
        ),
        (request(b"GET"), OK),
    ],
    compared=("start", "body"),
)
in_turn(
    "upgrade_that_is_denied",
    [
        (request(b"GET", fields=b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), OK),
        (request(b"GET"), OK),
    ],
    compared=("start", "body"),
)
in_turn(
    "trailers_that_are_asked_for",
    [
        (
            request(b"GET", fields=b"TE: trailers\r\nConnection: TE\r\n"),
            response(fields=b"Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n",
                     body=b"2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n"),
        ),
    ],
    compared=("start", "body", "trailers"),
)
exchange(
    "unannounced_trailers",
    request(
        b"POST",
        fields=b"TE: trailers\r\nTransfer-Encoding: chunked\r\n",
        body=b"3\r\nabc\r\n0\r\nx-sum: 3\r\n\r\n",
    ),
    response(
        fields=b"Transfer-Encoding: chunked\r\n", body=b"2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n"
    ),
)
in_turn(
    "status_lines",
    [
        (request(b"GET"), b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
        (request(b"GET"), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (request(b"GET"), b"HTTP/1.1 200 a  b\r\nContent-Length: 2\r\n\r\nok"),
    ],
    compared=("body",),
)
exchange(
    "reason_phrase_that_is_not_ascii",
    request(b"GET"),
    response("200 Schön".encode()),
)
exchange("empty_host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n")


@server
def continue_unasked(connection, _peer):
    Reader(connection).message()
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)


@client
def continue_unasked(to):
    connection = connect(to)
    connection.sendall(request(b"GET").replace(b"$HOST", b"a"))
    # An interim response that nobody has asked for may be left out.
    return {"status": statuses(Reader(connection))[-1]}


@server
def last_requests(connection, _peer):
    """Each is its connection's last, whatever follows."""
    start = Reader(connection).message()["start"]
    fields = b"Connection: close\r\n"
    if "/length" in start:
        connection.sendall(response(fields=fields + b"Content-Length: 2\r\n"))
    elif "/chunks" in start:
        fields += b"Transfer-Encoding: chunked\r\n"
        connection.sendall(response(fields=fields, body=b"2\r\nok\r\n0\r\n\r\n"))
    else:
        connection.sendall(response(fields=fields + b"Content-Length: 2\r\n", body=b"ok and more"))
    time.sleep(0.2)


@client
def last_requests(to):
    seen = {}
    for path in (b"/length", b"/chunks", b"/more"):
        connection = connect(to)
        last = request(b"GET", path, b"Connection: close\r\n")
        # What follows the last one is nobody's.
        connection.sendall((last + request(b"GET")).replace(b"$HOST", b"a"))
        reader = Reader(connection)
        seen[path.decode()] = reader.message(is_response=True)["body"]
    return seen


in_turn(
    "heads_between_bodies",
    [
        (request(b"HEAD"), response(body=b""), NO_BODY),
        (request(b"GET"), OK),
        (request(b"HEAD"), response(fields=b"Transfer-Encoding: chunked\r\n", body=b""), NO_BODY),
        (request(b"GET"), OK),
    ],
    compared=("start", "body"),
)


@server
def identity_coding(connection, _peer):
    Reader(connection).message()
    connection.sendall(response(fields=b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n"))
    time.sleep(0.2)


@client
def identity_coding(to):
    connection = connect(to)
    connection.sendall(request(b"GET", fields=b"Connection: close\r\n").replace(b"$HOST", b"a"))
    answer = Reader(connection).message(is_response=True)
    return {"start": answer["start"], "body": answer["body"]}


@server
def identity_coding_of_requests(connection, _peer):
    reader = Reader(connection)
    try:
        reader.head()
    except EOFError:
        return
    reader.exactly(2)
    connection.sendall(OK)


@client
def identity_coding_of_requests(to):
    connection = connect(to)
    fields = b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n"
    connection.sendall(request(b"POST", fields=fields, body=b"ok").replace(b"$HOST", b"a"))
    return {"start": Reader(connection).message(is_response=True)["start"]}


in_turn(
    "length_beside_chunks",
    [
        (
            request(b"GET"),
            response(fields=b"Content-Length: 99\r\nTransfer-Encoding: chunked\r\n",
                     body=b"2\r\nok\r\n0\r\n\r\n"),
        ),
        (request(b"GET"), OK),
    ],
    compared=("start", "body"),
)

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nWELCOME"


@server
def client_resets_another_protocol(connection, _peer):
    reader = Reader(connection)
    reader.head()
    connection.sendall(SWITCHING)
    data, end = reader.to_end()
    return {"data": data, "end": end}


@client
def client_resets_another_protocol(to):
    connection = connect(to)
    connection.sendall(upgrade(b"Upgrade", b"x"))
    reader = Reader(connection)
    reader.head()
    welcome = reader.exactly(7)
    connection.sendall(b"hello")
    time.sleep(0.3)
    reset(connection)
    return {"welcome": welcome}


@server
def server_resets_another_protocol(connection, _peer):
    reader = Reader(connection)
    reader.head()
    connection.sendall(SWITCHING)
    reader.exactly(5)
    time.sleep(0.3)
    reset(connection)


@client
def server_resets_another_protocol(to):
    connection = connect(to)
    connection.sendall(upgrade(b"Upgrade", b"x"))
    reader = Reader(connection)
    reader.head()
    connection.sendall(b"hello")
    data, end = reader.to_end()
    return {"data": data, "end": end}
