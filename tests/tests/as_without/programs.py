"""Clients and servers of the suite. Each says what it saw, as one line of JSON.

`serve NAME=PORT ...` serves one case on each port and prints a line an event;
`call NAME IPV4 IPV6 PORT` runs the client of one case and prints one line.
"""

import errno
import hashlib
import json
import socket
import struct
import sys
import threading
import time

LARGE = 8 * 1024 * 1024
WAIT = 8
SERVERS = {}
CLIENTS = {}
# Where a server listens that doesn't everywhere.
LISTENS_ON = {}


def server(function):
    SERVERS[function.__name__] = function
    return function


def client(function):
    CLIENTS[function.__name__] = function
    return function


def error_name(error):
    """The kernel's word for it, such as ECONNRESET."""
    return errno.errorcode.get(getattr(error, "errno", None), type(error).__name__)


def read_all(connection):
    """Everything up to the end, and how it ended."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
        return received, "end"
    except OSError as error:
        return received, error_name(error)


def read_exactly(connection, length):
    received = b""
    while len(received) < length:
        part = connection.recv(length - len(received))
        if not part:
            break
        received += part
    return received


def connect(to):
    connection = socket.create_connection((to.ipv4, to.port), WAIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


# Connections.


@server
def two_part_writes(connection, _peer):
    while len(read_exactly(connection, 20)) == 20:
        connection.sendall(b"k")


@client
def two_part_writes(to):
    connection, times = connect(to), []
    for _ in range(60):
        began = time.monotonic()
        connection.sendall(b"a" * 10)
        time.sleep(0.001)
        connection.sendall(b"b" * 10)
        connection.recv(1)
        times.append(time.monotonic() - began)
    # Nagle's algorithm and a delayed acknowledgement make it 40 ms more.
    return {"seconds": sorted(times)[30]}


@server
def server_speaks_first(connection, _peer):
    connection.sendall(b"220 welcome\r\n")
    connection.sendall(read_exactly(connection, 5))


@client
def server_speaks_first(to):
    began, connection = time.monotonic(), connect(to)
    greeting = connection.recv(100).decode()
    soon = time.monotonic() - began < 2
    connection.sendall(b"hello")
    return {"greeting": greeting, "soon": soon, "echo": read_exactly(connection, 5).decode()}


@server
def client_ends_its_side(connection, _peer):
    received, end = read_all(connection)
    connection.sendall(b"got %d" % len(received))
    return {"received": len(received), "end": end}


@client
def client_ends_its_side(to):
    connection = connect(to)
    connection.sendall(b"x" * 1000)
    connection.shutdown(socket.SHUT_WR)
    answer, end = read_all(connection)
    return {"answer": answer.decode(), "end": end}


@server
def server_ends_its_side(connection, _peer):
    connection.sendall(b"all I have")
    connection.shutdown(socket.SHUT_WR)
    received, end = read_all(connection)
    return {"received": len(received), "end": end}


@client
def server_ends_its_side(to):
    connection = connect(to)
    answer, end = read_all(connection)
    connection.sendall(b"y" * 1000)
    connection.close()
    return {"answer": answer.decode(), "end": end}


@server
def client_resets(connection, _peer):
    received, end = read_all(connection)
    return {"received": received.decode(), "end": end}


@client
def client_resets(to):
    connection = connect(to)
    connection.sendall(b"hello")
    time.sleep(0.2)
    reset(connection)
    return {}


@server
def server_resets(connection, _peer):
    received = read_exactly(connection, 5)
    reset(connection)
    return {"received": received.decode()}


@client
def server_resets(to):
    connection = connect(to)
    connection.sendall(b"hello")
    received, end = read_all(connection)
    return {"received": received.decode(), "end": end}


def connect_outcome(address, port):
    """What connect() says: the kernel's word for its error, or "connected"."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(WAIT)
        error = connection.connect_ex((address, port))
    return errno.errorcode[error] if error else "connected"


@client
def nobody_listens(to):
    return {"ipv4": connect_outcome(to.ipv4, to.port), "ipv6": connect_outcome(to.ipv6, to.port)}


@client
def nobody_listens_for_requests(to):
    try:
        connection = connect(to)
    except OSError as error:
        return {"outcome": error_name(error)}
    connection.sendall(GET.replace(b"$HOST", b"a") + b"\r\n")
    return {"outcome": Reader(connection).message(is_response=True)["start"]}


@client
def no_route_leads_there(to):
    addresses = {"ipv4": "203.0.113.1", "ipv6": "2001:db8::1"}
    return {name: connect_outcome(address, to.port) for name, address in addresses.items()}


@server
def next_address(connection, _peer):
    connection.sendall(connection.recv(1))


@client
def next_address(to):
    """As clients do that have several addresses for a name."""
    addresses = [("2001:db8::1", to.port), ("203.0.113.1", to.port), (to.ipv4, 1)]
    addresses.append((to.ipv4, to.port))
    for number, address in enumerate(addresses):
        try:
            connection = socket.create_connection(address, WAIT)
        except OSError:
            continue
        connection.sendall(b"x")
        return {"address": number, "echo": connection.recv(1).decode()}
    return {"address": None}


def addresses_seen(connection):
    seen = {"peer": connection.getpeername()[0], "own": connection.getsockname()[0]}
    connection.sendall(b"x")
    connection.recv(1)
    return seen


@server
def addresses(connection, peer):
    connection.sendall(connection.recv(1))
    return {"peer": peer[0].removeprefix("::ffff:")}


@client
def addresses(to):
    return addresses_seen(connect(to))


@server
def addresses_of_ipv6(connection, peer):
    return SERVERS["addresses"](connection, peer)


@client
def addresses_of_ipv6(to):
    return addresses_seen(socket.create_connection((to.ipv6, to.port), WAIT))


@server
def addresses_of_mapped_ipv4(connection, peer):
    return SERVERS["addresses"](connection, peer)


@client
def addresses_of_mapped_ipv4(to):
    connection = socket.socket(socket.AF_INET6)
    connection.settimeout(WAIT)
    connection.connect(("::ffff:" + to.ipv4, to.port))
    return addresses_seen(connection)


@server
def much_both_ways(connection, _peer):
    data = bytes(range(256)) * (LARGE // 256)
    sending = threading.Thread(target=connection.sendall, args=(data,))
    sending.start()
    received = read_exactly(connection, LARGE)
    sending.join()
    return {"received": digest(received)}


@client
def much_both_ways(to):
    connection = connect(to)
    data = bytes(reversed(range(256))) * (LARGE // 256)
    sending = threading.Thread(target=connection.sendall, args=(data,))
    sending.start()
    received = read_exactly(connection, LARGE)
    sending.join()
    return {"received": digest(received)}


@server
def slow_reader(connection, _peer):
    connection.sendall(bytes(range(256)) * (LARGE // 256))


@client
def slow_reader(to):
    connection, received = connect(to), b""
    while part := connection.recv(256 * 1024):
        received += part
        time.sleep(0.002)
    return {"received": digest(received)}


@server
def many_short_connections(connection, _peer):
    connection.sendall(connection.recv(5))


@client
def many_short_connections(to):
    answers = 0
    for _ in range(100):
        with connect(to) as connection:
            connection.sendall(b"hello")
            answers += connection.recv(5) == b"hello"
    return {"answers": answers}


@server
def urgent_byte(connection, _peer):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    received, end = read_all(connection)
    return {"received": received.decode(), "end": end}


@client
def urgent_byte(to):
    connection = connect(to)
    connection.sendall(b"AB")
    time.sleep(0.05)
    connection.send(b"!", socket.MSG_OOB)
    time.sleep(0.05)
    connection.sendall(b"CD")
    connection.close()
    return {}


@server
def silent_for_a_while(connection, _peer):
    connection.sendall(read_exactly(connection, 5))


@client
def silent_for_a_while(to):
    connection = connect(to)
    time.sleep(2)
    connection.sendall(b"hello")
    return {"echo": read_exactly(connection, 5).decode()}


# Requests, byte by byte.


def in_order(fields):
    """Fields by their names: the order of different ones means nothing (RFC 9110 section 5.3),
    nor does the case of what Connection says (section 7.6.1)."""
    seen = []
    for field in fields:
        name, value = field.split(":", 1)
        if name.lower() == "connection":
            field = name + ":" + value.lower()
        if name.lower() != "date":
            seen.append(field)
    return sorted(seen, key=lambda field: field.split(":")[0].lower())


class Reader:
    """Messages of HTTP/1 from a connection."""

    def __init__(self, connection):
        self.connection = connection
        self.rest = b""

    def until(self, end):
        while end not in self.rest:
            part = self.connection.recv(65536)
            if not part:
                raise EOFError
            self.rest += part
        text, self.rest = self.rest.split(end, 1)
        return text.decode("latin1")

    def exactly(self, length):
        parts, missing = [self.rest], length - len(self.rest)
        while missing > 0:
            part = self.connection.recv(1024 * 1024)
            if not part:
                raise EOFError
            parts.append(part)
            missing -= len(part)
        self.rest = b"".join(parts)
        data, self.rest = self.rest[:length], self.rest[length:]
        return data.decode("latin1")

    def to_end(self):
        rest, end = read_all(self.connection)
        data, self.rest = self.rest + rest, b""
        return data.decode("latin1"), end

    def head(self):
        start, *fields = self.until(b"\r\n\r\n").split("\r\n")
        return start, in_order(fields)

    def chunks(self):
        body, trailers = "", []
        while size := int(self.until(b"\r\n").split(";")[0], 16):
            body += self.exactly(size)
            self.exactly(2)
        while line := self.until(b"\r\n"):
            trailers.append(line)
        return body, trailers

    def message(self, is_response=False, has_body=True):
        start, fields = self.head()
        seen = {"start": start, "fields": fields}
        values = {}
        for field in fields:
            name, value = field.split(":", 1)
            values[name.lower()] = value.strip()
        status = int(start.split()[1]) if is_response else 0
        if not has_body or 100 <= status < 200 or status in (204, 304):
            return seen
        if "chunked" in values.get("transfer-encoding", "").lower():
            seen["body"], seen["trailers"] = self.chunks()
        elif "content-length" in values:
            seen["body"] = self.exactly(int(values["content-length"]))
        elif is_response:
            seen["body"], seen["end"] = self.to_end()
        return seen


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-MyThing: 1\r\n\r\nok"


def answering(name, answer=OK, seen=None):
    """A server that answers each request the same, and says what the request was."""

    def serve(connection, _peer):
        reader = Reader(connection)
        try:
            while True:
                request = reader.message()
                report(name, seen(request) if seen else request)
                connection.sendall(answer)
        except (EOFError, OSError):
            return None

    SERVERS[name] = serve


def asking(name, request, **options):
    """A client that sends these bytes and says what the response was."""

    def call(to):
        connection = connect(to)
        host = "%s:%d" % (to.ipv4, to.port)
        connection.sendall(request.replace(b"$HOST", host.encode()))
        return Reader(connection).message(is_response=True, **options)

    CLIENTS[name] = call


def exchange(name, request, answer=OK, seen=None, **options):
    answering(name, answer, seen)
    asking(name, request, **options)


GET = b"GET /a?b=c HTTP/1.1\r\nHost: $HOST\r\n"

exchange("names_of_fields", GET + b"X-CamelCase: 1\r\nx-lower: 2\r\nACCEPT: */*\r\n\r\n")
exchange("http10_without_host", b"GET / HTTP/1.0\r\n\r\n")
exchange("http10_with_host", b"GET / HTTP/1.0\r\nHost: $HOST\r\n\r\n")
exchange(
    "upgrade_with_a_body",
    b"POST /exec HTTP/1.1\r\nHost: $HOST\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    b"Content-Length: 5\r\n\r\nhello",
)
exchange(
    "upgrade_to_http2_with_a_body",
    b"POST / HTTP/1.1\r\nHost: $HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 5\r\n\r\nhello",
)
exchange("url_as_target", b"GET http://example.test/x HTTP/1.1\r\nHost: example.test\r\n\r\n")
exchange(
    "url_that_differs_from_host",
    b"GET http://example.test/x HTTP/1.1\r\nHost: other.test\r\n\r\n",
)


def sizes(request):
    return {"start": len(request["start"]), "fields": len(request["fields"])}


exchange("long_url", b"GET /?" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: $HOST\r\n\r\n", seen=sizes)
exchange(
    "large_fields",
    GET + b"".join(b"X-%d: %s\r\n" % (n, b"v" * 8192) for n in range(9)) + b"\r\n",
    seen=sizes,
)
exchange(
    "many_fields", GET + b"".join(b"X-%d: v\r\n" % n for n in range(300)) + b"\r\n", seen=sizes
)
exchange(
    "large_response_head",
    GET + b"\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Large: " + b"v" * 70_000 + b"\r\n\r\nok",
)
exchange(
    "many_cookies",
    GET + b"\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"Set-Cookie: a=b\r\n" * 300 + b"\r\nok",
)
exchange(
    "chunks_and_trailers",
    b"POST / HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n",
)
exchange(
    "head_request",
    b"HEAD / HTTP/1.1\r\nHost: $HOST\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
    has_body=False,
)
exchange("no_content", GET + b"\r\n", b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n")
exchange(
    "not_modified_with_length",
    GET + b"If-None-Match: x\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: x\r\n\r\n",
)
exchange(
    "reason_phrase", GET + b"\r\n", b"HTTP/1.1 200 Fine by me\r\nContent-Length: 2\r\n\r\nok"
)


@server
def response_to_the_end(connection, _peer):
    Reader(connection).message()
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")


asking("response_to_the_end", GET + b"\r\n")


@server
def broken_response(connection, _peer):
    Reader(connection).message()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


@client
def broken_response(to):
    connection = connect(to)
    connection.sendall(GET.replace(b"$HOST", b"a") + b"\r\n")
    reader = Reader(connection)
    start, _fields = reader.head()
    # The length says that it broke off, by FIN or by RST.
    body, _end = reader.to_end()
    return {"start": start, "body": body}


@server
def no_response(connection, _peer):
    Reader(connection).message()


@client
def no_response(to):
    connection = connect(to)
    connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                       b"Content-Length: 1\r\n\r\nx")
    received, end = read_all(connection)
    return {"start": received.split(b"\r\n")[0].decode(), "end": end}


@server
def kept_connection_of_http10(connection, _peer):
    reader = Reader(connection)
    try:
        while True:
            request = reader.message()
            fields = [field.lower() for field in request["fields"]]
            kept = "HTTP/1.1" in request["start"] or "connection: keep-alive" in fields
            option = b"keep-alive" if kept else b"close"
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: " + option
            connection.sendall(head + b"\r\n\r\nok")
            if not kept:
                return None
    except EOFError:
        return None


@client
def kept_connection_of_http10(to):
    reader = Reader(connect(to))
    bodies = []
    for _ in range(20):
        reader.connection.sendall(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        bodies.append(reader.message(is_response=True)["body"])
    return {"bodies": bodies}


@server
def early_hints(connection, _peer):
    Reader(connection).message()
    connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)


@client
def early_hints(to):
    connection = connect(to)
    connection.sendall(GET.replace(b"$HOST", b"a") + b"\r\n")
    return {"statuses": statuses(Reader(connection))}


def statuses(reader):
    seen = []
    while not seen or seen[-1] < 200:
        seen.append(int(reader.message(is_response=True)["start"].split()[1]))
    return seen


@server
def expectation_refused(connection, _peer):
    reader = Reader(connection)
    start, _fields = reader.head()
    connection.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    return {"start": start}


EXPECT = b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"


@client
def expectation_refused(to):
    connection = connect(to)
    connection.sendall(EXPECT)
    return {"statuses": statuses(Reader(connection))}


@server
def expectation_met(connection, _peer):
    reader = Reader(connection)
    reader.head()
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = reader.exactly(5)
    connection.sendall(OK)
    return {"body": body}


@client
def expectation_met(to):
    connection = connect(to)
    connection.sendall(EXPECT)
    reader = Reader(connection)
    first = reader.message(is_response=True)["start"]
    connection.sendall(b"hello")
    return {"first": first, "then": reader.message(is_response=True)["start"]}


# More than all buffers on the way hold.
BODY = bytes(LARGE)
UPLOAD = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LARGE
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nX-MyThing: 1\r\n"


def send_while_wanted(connection):
    """Sends a large body as far as the other end takes it."""
    try:
        connection.sendall(BODY)
    except OSError:
        pass


def discard(connection):
    """Reads to the end, and says how much it was."""
    length = 0
    try:
        while part := connection.recv(1024 * 1024):
            length += len(part)
    except OSError:
        pass
    return length


@server
def early_answer_that_ends(connection, _peer):
    """As servers do it right: the rest is read and thrown away, or the answer may be lost."""
    Reader(connection).head()
    connection.sendall(TOO_LARGE + b"Connection: close\r\n\r\nlarge")
    connection.shutdown(socket.SHUT_WR)
    discard(connection)


@client
def early_answer_that_ends(to):
    """As clients do that look for an answer while they send."""
    connection = connect(to)
    connection.sendall(UPLOAD)
    sending = threading.Thread(target=send_while_wanted, args=(connection,))
    sending.start()
    answer = Reader(connection).message(is_response=True)
    connection.shutdown(socket.SHUT_RDWR)
    sending.join()
    # Whether the connection ends is about the server's, which is the proxy's.
    return {"start": answer["start"], "body": answer["body"]}


@server
def early_answer_read_late(connection, _peer):
    reader = Reader(connection)
    reader.head()
    connection.sendall(TOO_LARGE + b"Connection: close\r\n\r\nlarge")
    connection.shutdown(socket.SHUT_WR)
    return {"received": len(reader.rest) + discard(connection)}


@client
def early_answer_read_late(to):
    """As clients do that look for an answer when they have sent all."""
    connection = connect(to)
    connection.sendall(UPLOAD)
    connection.sendall(BODY)
    answer = Reader(connection).message(is_response=True)
    return {"start": answer["start"], "body": answer["body"]}


@server
def early_answer_to_a_stuck_upload(connection, _peer):
    """Reads nothing more, as one that is slow to end does."""
    Reader(connection).head()
    connection.sendall(TOO_LARGE + b"Connection: close\r\n\r\nlarge")
    time.sleep(WAIT)


@client
def early_answer_to_a_stuck_upload(to):
    began, connection = time.monotonic(), connect(to)
    connection.sendall(UPLOAD)
    sending = threading.Thread(target=send_while_wanted, args=(connection,))
    sending.start()
    answer = Reader(connection).message(is_response=True)
    soon = time.monotonic() - began < WAIT / 2
    connection.shutdown(socket.SHUT_RDWR)
    sending.join()
    # `Connection: close` is about the server's connection, which is the proxy's.
    return {"start": answer["start"], "body": answer["body"], "soon": soon}


@server
def client_gives_up(connection, _peer):
    Reader(connection).message()
    began = time.monotonic()
    connection.settimeout(WAIT)
    read_all(connection)
    return {"soon": time.monotonic() - began < 3}


@client
def client_gives_up(to):
    connection = connect(to)
    connection.sendall(GET.replace(b"$HOST", b"a") + b"\r\n")
    time.sleep(0.5)
    connection.close()
    return {}


@server
def half_closed_request(connection, _peer):
    Reader(connection).message()
    time.sleep(0.3)
    connection.sendall(OK)


@client
def half_closed_request(to):
    connection = connect(to)
    connection.sendall(GET.replace(b"$HOST", b"a") + b"\r\n")
    connection.shutdown(socket.SHUT_WR)
    return Reader(connection).message(is_response=True)


@server
def pipelined_requests(connection, _peer):
    reader = Reader(connection)
    try:
        while True:
            path = reader.message()["start"].split()[1].encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + path)
    except EOFError:
        return None


@client
def pipelined_requests(to):
    connection = connect(to)
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5))
    connection.sendall(requests)
    reader = Reader(connection)
    return {"bodies": [reader.message(is_response=True)["body"] for _ in range(5)]}


@server
def connection_that_has_logged_in(connection, peer):
    reader = Reader(connection)
    try:
        while True:
            reader.message()
            text = b"%05d" % peer[1]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + text)
    except EOFError:
        return None


@client
def connection_that_has_logged_in(to):
    request = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM abc\r\n\r\n"
    readers, seen = [Reader(connect(to)) for _ in range(2)], [set(), set()]
    for _ in range(5):
        for reader, ports in zip(readers, seen):
            reader.connection.sendall(request)
            ports.add(reader.message(is_response=True)["body"])
    return {"connections": [len(ports) for ports in seen], "shared": bool(seen[0] & seen[1])}


@server
def idle_connection_that_ends(connection, _peer):
    reader = Reader(connection)
    connection.settimeout(0.5)
    try:
        while True:
            reader.message()
            connection.sendall(OK)
    except (EOFError, OSError):
        return None


@client
def idle_connection_that_ends(to):
    request, answers = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", []
    for turn in range(5):
        with connect(to) as connection:
            connection.sendall(request)
            answers.append(Reader(connection).message(is_response=True)["start"])
        time.sleep(0.49 + turn * 0.005)
    # Of two ends that act in the same moment one may lose; `long_connections.rs` counts how often.
    lost = sum(" 200 " not in answer for answer in answers)
    return {"answers": sorted(set(answers)) if lost > 1 else ["HTTP/1.1 200 OK"]}


@server
def server_speaks_first_on_a_port_of_http(connection, peer):
    try:
        return SERVERS["server_speaks_first"](connection, peer)
    except OSError:
        return None


@client
def server_speaks_first_on_a_port_of_http(to):
    try:
        return CLIENTS["server_speaks_first"](to)
    except OSError:
        return {"greeting": "", "soon": True, "echo": ""}


# The program.


class To:
    def __init__(self, ipv4, ipv6, port):
        self.ipv4, self.ipv6, self.port = ipv4, ipv6, int(port)


printing = threading.Lock()


def report(name, seen):
    with printing:
        print(json.dumps({"case": name, "seen": seen}), flush=True)


def handle(name, connection, peer):
    try:
        seen = SERVERS[name](connection, peer)
    except (OSError, EOFError) as error:
        seen = {"error": error_name(error)}
    finally:
        connection.close()
    if seen is not None:
        report(name, seen)


def accept(name, listener):
    while True:
        connection, peer = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=handle, args=(name, connection, peer), daemon=True).start()


def serve(cases):
    threads = []
    for name, port in (case.split("=") for case in cases):
        listener = socket.create_server(
            (LISTENS_ON.get(name, "::"), int(port)),
            family=socket.AF_INET6,
            dualstack_ipv6=True,
            backlog=512,
        )
        threads.append(threading.Thread(target=accept, args=(name, listener)))
        threads[-1].start()
    print("listening", flush=True)
    threads[0].join()


def call(name, *to):
    try:
        seen = CLIENTS[name](To(*to))
    except (OSError, EOFError) as error:
        seen = {"error": error_name(error)}
    print(json.dumps(seen))


if __name__ == "__main__":
    import more_connections  # noqa: F401
    import more_requests  # noqa: F401
    import odd_requests  # noqa: F401

    if sys.argv[1] == "serve":
        serve(sys.argv[2:])
    else:
        call(*sys.argv[2:])
