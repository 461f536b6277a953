"""More cases of requests: what odd clients and servers do that the mesh must not notice."""

import socket
import time

from __main__ import (
    CLIENTS,
    GET,
    OK,
    SERVERS,
    Reader,
    client,
    connect,
    error_name,
    read_all,
    reset,
    server,
)


# One request after another on a connection, each with what the server says to it.


def trimmed(message):
    """Without white space around the fields' values, which means nothing (RFC 9112 section 5)."""
    fields = (field.split(":", 1) for field in message["fields"])
    message["fields"] = ["%s: %s" % (name, value.strip(" \t")) for name, value in fields]
    return message


def in_turn(name, pairs, compared=("start", "fields", "body", "trailers")):
    """A case of several requests, each with its answer; what the client makes of each comes
    out, and what the server got, as far as it is compared."""

    def seen(message):
        message = trimmed(message)
        return {part: message[part] for part in compared if part in message}

    def serve(connection, _peer):
        reader = Reader(connection)
        requests = []
        try:
            for _, answer, *_ in pairs:
                requests.append(seen(reader.message()))
                connection.sendall(answer)
        except (EOFError, OSError) as error:
            requests.append(error_name(error))
        return {"request-%d" % number: request for number, request in enumerate(requests)}

    def call(to):
        connection, responses = connect(to), []
        host = b"%s:%d" % (to.ipv4.encode(), to.port)
        reader = Reader(connection)
        for request, _, *options in pairs:
            connection.sendall(request.replace(b"$HOST", host))
            try:
                how = options[0] if options else {}
                response = seen(reader.message(is_response=True, **how))
            except EOFError:
                response = "end"
            except OSError as error:
                response = error_name(error)
            responses.append(response)
        return {str(number): response for number, response in enumerate(responses)}

    SERVERS[name], CLIENTS[name] = serve, call


def each_alone(name, requests, told):
    """A case of requests on a connection each, whose answers say what the server was told."""

    def serve(connection, _peer):
        body = told(Reader(connection).message()).encode("latin1")
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)

    def call(to):
        host = b"%s:%d" % (to.ipv4.encode(), to.port)
        seen = {}
        for number, message in enumerate(requests):
            with connect(to) as connection:
                connection.sendall(message.replace(b"$HOST", host))
                try:
                    response = Reader(connection).message(is_response=True)
                    outcome = [response["start"], response.get("body")]
                except (EOFError, OSError) as error:
                    outcome = [error_name(error)]
            seen[str(number) + " " + message.decode("latin1")[:40]] = outcome
        return seen

    SERVERS[name], CLIENTS[name] = serve, call


def request(method, path=b"/a", fields=b"", body=b""):
    return method + b" " + path + b" HTTP/1.1\r\nHost: $HOST\r\n" + fields + b"\r\n" + body


def response(status=b"200 OK", fields=b"Content-Length: 2\r\n", body=b"ok"):
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n" + body


NO_BODY = {"has_body": False}

in_turn(
    "lengths_that_are_nought_or_missing",
    [
        (request(b"GET", fields=b"Content-Length: 0\r\n"), OK),
        (request(b"POST"), OK),
        (request(b"POST", fields=b"Content-Length: 0\r\n"), OK),
        (request(b"DELETE"), OK),
        (request(b"PUT", fields=b"Transfer-Encoding: chunked\r\n", body=b"0\r\n\r\n"), OK),
        (request(b"GET"), response(fields=b"Content-Length: 0\r\n", body=b"")),
        (request(b"GET"), response(fields=b"Transfer-Encoding: chunked\r\n", body=b"0\r\n\r\n")),
    ],
)
in_turn(
    "responses_without_a_body",
    [
        (request(b"HEAD"), response(fields=b"X-A: 1\r\n", body=b""), NO_BODY),
        (request(b"HEAD"), response(fields=b"Transfer-Encoding: chunked\r\n", body=b""), NO_BODY),
        (request(b"HEAD"), response(fields=b"Content-Length: 0\r\n", body=b""), NO_BODY),
        (request(b"GET"), response(b"304 Not Modified", b"ETag: x\r\n", b""), NO_BODY),
        (request(b"GET"), response(b"204 No Content", b"X-A: 1\r\n", b"")),
        (request(b"GET"), response(b"205 Reset Content", b"Content-Length: 0\r\n", b"")),
        (request(b"OPTIONS"), response(b"200 OK", b"Content-Length: 0\r\nAllow: GET\r\n", b"")),
        (request(b"OPTIONS", b"*"), OK),
    ],
    compared=("start", "body"),
)
in_turn(
    "no_content_with_length",
    [
        (request(b"GET"), response(b"204 No Content", b"Content-Length: 0\r\n", b"")),
        (request(b"GET"), OK),
    ],
    compared=("start", "body"),
)
in_turn(
    "no_content_in_chunks",
    [
        (request(b"GET"), response(b"204 No Content", b"Transfer-Encoding: chunked\r\n", b"")),
        (request(b"HEAD"), response(b"204 No Content", b"Transfer-Encoding: chunked\r\n", b""), NO_BODY),
        (request(b"GET"), OK),
    ],
    compared=("start", "body"),
)
in_turn(
    "bodies_where_few_send_one",
    [
        (request(b"GET", fields=b"Content-Length: 5\r\n", body=b"hello"), OK),
        (request(b"DELETE", fields=b"Content-Length: 5\r\n", body=b"hello"), OK),
        (request(b"OPTIONS", fields=b"Content-Length: 5\r\n", body=b"hello"), OK),
        (
            request(b"GET", fields=b"Transfer-Encoding: chunked\r\n", body=b"5\r\nhello\r\n0\r\n\r\n"),
            OK,
        ),
        (request(b"PROPFIND", fields=b"Depth: 1\r\nContent-Length: 4\r\n", body=b"<a/>"),
         response(b"207 Multi-Status")),
    ],
)
in_turn(
    "unusual_methods",
    [
        (request(method), OK)
        for method in (b"M-SEARCH", b"get", b"PURGE", b"X.Y_Z!", b"TRACE", b"QUERY", b"A" * 60)
    ],
)
in_turn(
    "unusual_statuses",
    [
        (request(b"GET"), response(status))
        for status in (
            b"299 Mine",
            b"420 Enhance Your Calm",
            b"499 Client Closed Request",
            b"599 Network",
            b"799 Odd",
            b"999 Request Denied",
            b"200 ",
        )
    ],
    compared=("start", "body"),
)
TARGETS = [
    b"/a|b", b"/{x}", b'/"q"', b"/a^b", b"/[x]", b"/?q={a:1}", b"/?a=[1]&b[]=2", b"/%", b"/%zz",
    b"/a\\b", b"//a//b", b"/?", b"/a?b?c", b"/;a=b", b"/~u", b"/@scope/x", b"/a:b", b"/.", b"/a/../b",
    b"/a%2Fb", b"/a%00b", b"/?a='b'", b"/?a=b|c", b"/?a=\\", b"/?a=^", b"/a?x=http://b/c", b"/a,b",
    b"/$metadata", b"/a(b)", b"/!", b"/a%20b+c", b"/" + b"a" * 8000, b"/<a>`b`", b'/?q={"a":"<b>"}',
    "/schön?q=schön".encode(), b"/sch\xf6n?q=\xff",
]
each_alone("unusual_targets", [request(b"GET", target) for target in TARGETS],
           lambda message: message["start"])
HOSTS = [b"WEB.Shop.Svc", b"web.", b"web:80", b"web:", b"[::1]:80", b"a_b.test", b"127.0.0.1:1",
         b"xn--nxasmq6b.test", b"-a-", b"a..b", b"%61"]
each_alone(
    "unusual_hosts",
    [b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n" for host in HOSTS],
    lambda message: trimmed(message)["fields"][0],
)
in_turn(
    "unusual_fields",
    [
        (
            request(
                b"GET",
                fields=b"X_Under: 1\r\n!#$%&'*+-.^`|~: 2\r\nX-Empty:\r\nX-None: \r\nX-Tab: a\tb\r\n"
                + "X-Text: schön\r\n".encode()
                + b"X-Latin: sch\xf6n\r\nX-Colon: a: b\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
                + b"Cookie: a=1\r\nCookie: b=2; c=\"3\"\r\nX-Space:   4   \r\n",
            ),
            response(
                fields=b"Content-Length: 2\r\nX_Under: 1\r\nX-Empty:\r\nX-Tab: a\tb\r\n"
                + "X-Text: schön\r\n".encode()
                + b"X-Latin: sch\xf6n\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nX-Last:v\r\n"
                + b"Server: mine/1.0\r\nVary: a\r\nVary: b\r\nX-Space:   4   \r\n"
            ),
        )
    ],
)
in_turn(
    "fields_of_proxies",
    [
        (
            request(
                b"GET",
                fields=b"X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\n"
                b"X-Forwarded-Host: h\r\nX-Forwarded-Port: 443\r\nForwarded: for=1.2.3.4\r\n"
                b"X-Real-IP: 1.2.3.4\r\nX-Request-Id: r\r\nVia: 1.1 a\r\nMax-Forwards: 3\r\n"
                b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
                b"tracestate: a=b\r\nb3: 0\r\nX-B3-TraceId: 1\r\nbaggage: a=b\r\n"
                b"Proxy-Authorization: Basic YTpi\r\nAuthorization: Bearer x\r\n"
                b"X-Envoy-Upstream-Rq-Timeout-Ms: 1\r\nX-Weft-Reason: mine\r\n",
            ),
            response(
                fields=b"Content-Length: 2\r\nVia: 1.1 b\r\nServer: s\r\nDate: now\r\nAge: 1\r\n"
                b"Proxy-Authenticate: Basic\r\nX-Request-Id: r\r\nX-Weft-Reason: mine\r\n"
                b"Content-Encoding: gzip\r\nAlt-Svc: h3=\":443\"\r\nStrict-Transport-Security: x\r\n"
            ),
        ),
    ],
)
in_turn(
    "framing_of_responses",
    [
        (request(b"GET"), response(fields=b"Transfer-Encoding: Chunked\r\n", body=b"2\r\nok\r\n0\r\n\r\n")),
        (request(b"GET"), response(fields=b"transfer-encoding:chunked\r\n", body=b"0002 \r\nok\r\n0\r\n\r\n")),
        (request(b"GET"), response(fields=b"Transfer-Encoding: chunked\r\n", body=b"A;x=y\r\n0123456789\r\n000\r\n\r\n")),
        (request(b"GET"), response(fields=b"Content-Length: 2\r\nContent-Length: 2\r\n")),
    ],
    compared=("start", "body"),
)
in_turn(
    "chunked_twice",
    [
        (
            request(b"GET"),
            response(fields=b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                     body=b"2\r\nok\r\n0\r\n\r\n"),
        ),
        (request(b"GET"), OK),
    ],
    compared=("start", "body"),
)
in_turn(
    "framing_of_requests",
    [
        (request(b"POST", fields=b"Transfer-Encoding: Chunked\r\n", body=b"002;a=b\r\nok\r\n0\r\n\r\n"), OK),
        (request(b"POST", fields=b"transfer-encoding:chunked\r\n", body=b"A\r\n0123456789\r\n00\r\n\r\n"), OK),
        (request(b"POST", fields=b"CONTENT-LENGTH:2\r\n", body=b"ok"), OK),
        (request(b"POST", fields=b"Content-Length: 0002\r\n", body=b"ok"), OK),
    ],
    compared=("start", "body", "trailers"),
)


@server
def lines_that_end_with_lf_alone(connection, _peer):
    Reader(connection).message()
    connection.sendall(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok")


@client
def lines_that_end_with_lf_alone(to):
    connection = connect(to)
    connection.sendall(request(b"GET", fields=b"Connection: close\r\n").replace(b"$HOST", b"a"))
    received, end = read_all(connection)
    return {"lines": received.decode().splitlines()[:1] + received.decode().splitlines()[-1:], "end": end}


in_turn(
    "response_of_http10",
    [(request(b"GET"), b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")],
    compared=("body",),
)
in_turn(
    "parts_of_a_file",
    [
        (
            request(b"GET", fields=b"Range: bytes=0-1\r\nIf-Range: \"x\"\r\n"),
            response(b"206 Partial Content", b"Content-Length: 2\r\nContent-Range: bytes 0-1/9\r\n"
                     b"Accept-Ranges: bytes\r\nETag: \"x\"\r\n"),
        ),
        (
            request(b"GET", fields=b"Range: bytes=99-\r\n"),
            response(b"416 Range Not Satisfiable", b"Content-Length: 2\r\nContent-Range: bytes */9\r\n"),
        ),
    ],
)


def interim(*statuses):
    lines = (b"HTTP/1.1 " + status + b"\r\nX-A: 1\r\n\r\n" for status in statuses)
    return b"".join(lines) + OK


@server
def several_interim_responses(connection, _peer):
    Reader(connection).message()
    connection.sendall(interim(b"102 Processing", b"102 Processing", b"103 Early Hints"))


@client
def several_interim_responses(to):
    connection = connect(to)
    connection.sendall(request(b"GET").replace(b"$HOST", b"a"))
    return {"statuses": statuses(Reader(connection))}


@server
def undefined_interim_response(connection, _peer):
    Reader(connection).message()
    connection.sendall(interim(b"199 Mine"))


@client
def undefined_interim_response(to):
    connection = connect(to)
    connection.sendall(request(b"GET").replace(b"$HOST", b"a"))
    return {"statuses": statuses(Reader(connection))}


def statuses(reader):
    seen = []
    while not seen or seen[-1] < 200:
        seen.append(int(reader.message(is_response=True)["start"].split()[1]))
    return seen


@server
def another_expectation(connection, _peer):
    reader = Reader(connection)
    start, fields = reader.head()
    connection.sendall(response(b"417 Expectation Failed"))
    return {"start": start, "fields": fields}


@client
def another_expectation(to):
    connection = connect(to)
    connection.sendall(request(b"POST", fields=b"Expect: 200-ok\r\nContent-Length: 5\r\n").replace(b"$HOST", b"a"))
    return {"statuses": statuses(Reader(connection))}


@server
def events(connection, _peer):
    Reader(connection).message()
    connection.sendall(response(fields=b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n", body=b""))
    for number in range(3):
        time.sleep(0.4)
        connection.sendall(b"9\r\ndata: %d\n\n\r\n" % number)
    connection.sendall(b"0\r\n\r\n")


@client
def events(to):
    connection = connect(to)
    connection.sendall(request(b"GET", fields=b"Accept: text/event-stream\r\n").replace(b"$HOST", b"a"))
    began = time.monotonic()
    reader, times = Reader(connection), []
    reader.head()
    times.append(time.monotonic() - began)
    for _ in range(3):
        size = int(reader.until(b"\r\n"), 16)
        reader.exactly(size + 2)
        times.append(time.monotonic() - began)
    # Each comes when it was sent, 0.4 s after the one before.
    return {"late": [round(time - 0.4 * number) for number, time in enumerate(times)],
            "early": [time < 0.4 * number + 0.3 for number, time in enumerate(times)]}


@server
def echo_while_sending(connection, _peer):
    reader = Reader(connection)
    reader.head()
    connection.sendall(response(fields=b"Transfer-Encoding: chunked\r\n", body=b""))
    while size := int(reader.until(b"\r\n"), 16):
        data = reader.exactly(size)
        reader.exactly(2)
        connection.sendall(b"%x\r\n" % size + data.encode() + b"\r\n")
    connection.sendall(b"0\r\n\r\n")


@client
def echo_while_sending(to):
    """A response that goes on beside its request, as long as both last."""
    connection, echoes = connect(to), []
    connection.sendall(request(b"POST", fields=b"Transfer-Encoding: chunked\r\n").replace(b"$HOST", b"a"))
    reader = Reader(connection)
    reader.head()
    for number in range(5):
        connection.sendall(b"2\r\n%02d\r\n" % number)
        reader.until(b"\r\n")
        echoes.append(reader.exactly(2))
        reader.exactly(2)
    connection.sendall(b"0\r\n\r\n")
    return {"echoes": echoes, "end": reader.until(b"\r\n")}


def upgrade(connection_field, protocol):
    fields = b"Connection: " + connection_field + b"\r\nUpgrade: " + protocol + b"\r\n"
    fields += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    fields += b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    return request(b"GET", fields=fields).replace(b"$HOST", b"a")


@server
def upgrade_with_bytes_behind(connection, _peer):
    reader = Reader(connection)
    start, fields = reader.head()
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
                       b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: a\r\n\r\nWELCOME")
    connection.sendall(reader.exactly(5).encode())
    rest = reader.to_end()
    connection.sendall(b"BYE")
    return {"start": start, "fields": fields, "rest": rest}


@client
def upgrade_with_bytes_behind(to):
    connection = connect(to)
    connection.sendall(upgrade(b"Upgrade", b"WebSocket"))
    reader = Reader(connection)
    start, fields = reader.head()
    welcome = reader.exactly(7)
    connection.sendall(b"hello")
    echo = reader.exactly(5)
    connection.shutdown(socket.SHUT_WR)
    return {"start": start, "fields": fields, "welcome": welcome, "echo": echo, "end": reader.to_end()}


@server
def bytes_ahead_of_an_upgrade(connection, _peer):
    reader = Reader(connection)
    reader.head()
    time.sleep(0.2)
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
    connection.sendall(reader.exactly(5).encode())


@client
def bytes_ahead_of_an_upgrade(to):
    """As clients do that don't wait for the answer."""
    connection = connect(to)
    connection.sendall(upgrade(b"Upgrade", b"x") + b"hello")
    reader = Reader(connection)
    start, _fields = reader.head()
    return {"start": start, "echo": reader.exactly(5)}


@server
def connect_method(connection, _peer):
    reader = Reader(connection)
    start, fields = reader.head()
    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\nWELCOME")
    connection.sendall(reader.exactly(5).encode())
    return {"start": start, "fields": fields}


@client
def connect_method(to):
    connection = connect(to)
    connection.sendall(b"CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n"
                       b"Proxy-Authorization: Basic YTpi\r\nUser-Agent: u\r\n\r\n")
    reader = Reader(connection)
    start, fields = reader.head()
    welcome = reader.exactly(7)
    connection.sendall(b"hello")
    return {"start": start, "fields": fields, "welcome": welcome, "echo": reader.exactly(5)}


@server
def pipelined_posts(connection, _peer):
    reader, bodies = Reader(connection), []
    try:
        while True:
            message = reader.message()
            bodies.append(message.get("body"))
            connection.sendall(response(body=b"%02d" % len(bodies)))
    except EOFError:
        return None


@client
def pipelined_posts(to):
    connection = connect(to)
    post = request(b"POST", fields=b"Content-Length: 5\r\n", body=b"hello")
    chunked = request(b"PUT", fields=b"Transfer-Encoding: chunked\r\n", body=b"2\r\nok\r\n0\r\n\r\n")
    last = request(b"GET", fields=b"Connection: close\r\n")
    connection.sendall((post + chunked + post + last).replace(b"$HOST", b"a"))
    reader = Reader(connection)
    return {"bodies": [reader.message(is_response=True)["body"] for _ in range(4)]}


@server
def byte_by_byte(connection, _peer):
    seen = Reader(connection).message()
    for byte in response(fields=b"Transfer-Encoding: chunked\r\n", body=b"2\r\nok\r\n0\r\n\r\n"):
        connection.sendall(bytes([byte]))
        time.sleep(0.002)
    return seen


@client
def byte_by_byte(to):
    connection = connect(to)
    for byte in request(b"POST", fields=b"Content-Length: 5\r\n", body=b"hello").replace(b"$HOST", b"a"):
        connection.sendall(bytes([byte]))
        time.sleep(0.002)
    return Reader(connection).message(is_response=True)


@server
def fields_that_are_added(connection, _peer):
    """All of a head, whatever it says, in the order of its lines."""
    text = Reader(connection).until(b"\r\n\r\n")
    connection.sendall(b"HTTP/1.1 200 OK\r\nZ-Last: 1\r\nContent-Length: 2\r\nA-First: 2\r\n\r\nok")
    return {"names": [line.split(":")[0] for line in text.split("\r\n")[1:]]}


@client
def fields_that_are_added(to):
    connection = connect(to)
    connection.sendall(b"GET / HTTP/1.1\r\nZ-Last: 1\r\nHost: a\r\nA-First: 2\r\nAccept: */*\r\n\r\n")
    text = Reader(connection).until(b"\r\n\r\n")
    return {"names": [line.split(":")[0] for line in text.split("\r\n")[1:]]}


@server
def two_that_answer_out_of_order(connection, _peer):
    """The slow one holds up nobody else."""
    reader = Reader(connection)
    try:
        while True:
            if "/slow" in reader.message()["start"]:
                time.sleep(1)
            connection.sendall(OK)
    except EOFError:
        return None


@client
def two_that_answer_out_of_order(to):
    slow, fast = connect(to), connect(to)
    slow.sendall(request(b"GET", b"/slow").replace(b"$HOST", b"a"))
    began = time.monotonic()
    fast.sendall(request(b"GET", b"/fast").replace(b"$HOST", b"a"))
    Reader(fast).message(is_response=True)
    soon = time.monotonic() - began < 0.8
    Reader(slow).message(is_response=True)
    return {"soon": soon}


@server
def unfinished_chunks(connection, _peer):
    Reader(connection).message()
    connection.sendall(response(fields=b"Transfer-Encoding: chunked\r\n", body=b"2\r\nok\r\n"))


@client
def unfinished_chunks(to):
    connection = connect(to)
    connection.sendall(request(b"GET").replace(b"$HOST", b"a"))
    reader = Reader(connection)
    reader.head()
    body, _end = reader.to_end()
    return {"body": body}


@server
def client_breaks_off_its_body(connection, _peer):
    reader = Reader(connection)
    reader.head()
    data, end = reader.to_end()
    return {"data": data}


@client
def client_breaks_off_its_body(to):
    connection = connect(to)
    connection.sendall(request(b"POST", fields=b"Content-Length: 10\r\n", body=b"half").replace(b"$HOST", b"a"))
    time.sleep(0.3)
    connection.close()
    return {}
