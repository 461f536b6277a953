"""A server and a client of gRPC for Python: `serve PORT`, or `TARGET NAME`."""

import sys
import threading
import time
from concurrent import futures

import grpc

LARGE = bytes(range(256)) * 8192
GIVEN_UP = 10


def plain(data):
    return data


class Handlers(grpc.GenericRpcHandler):
    """Methods without generated code: bytes in, bytes out."""

    def service(self, details):
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "Fail": grpc.unary_unary_rpc_method_handler(fail),
            "Count": grpc.unary_stream_rpc_method_handler(count),
            "Collect": grpc.stream_unary_rpc_method_handler(collect),
            "Echo": grpc.stream_stream_rpc_method_handler(echo),
            "Silent": grpc.unary_stream_rpc_method_handler(silent),
        }
        return kinds.get(details.method.rsplit("/")[-1])


def unary(request, context):
    sent = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
    context.send_initial_metadata(sent)
    context.set_trailing_metadata([("x-trailer", "1"), ("x-trailer-bin", b"\0\xff")])
    peer = context.peer().rsplit(":", 1)[0].replace("%5B", "").replace("%5D", "")
    has_deadline = (context.time_remaining() or 1e9) < 100
    return f"{peer.replace('ipv6:::ffff:', 'ipv4:')} {len(request)} {has_deadline}".encode() + request[:2]


def fail(request, context):
    context.set_trailing_metadata([("x-why", "so")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "grüße: 100% " + request.decode())


def count(request, _context):
    for number in range(int(request)):
        yield b"%d" % number


def collect(requests, _context):
    return b"%d" % sum(len(request) for request in requests)


def echo(requests, _context):
    for request in requests:
        yield request


def silent(request, context):
    """Says when the call has ended, which its client does."""
    began, ended = time.monotonic(), threading.Event()

    def end():
        is_soon = time.monotonic() - began < GIVEN_UP / 2
        print(f"{request.decode()} ended, soon: {is_soon}", flush=True)
        ended.set()

    # This generator is not asked again once the call has ended: it may never get to log that.
    if not context.add_callback(end):
        end()
    yield b"began"
    ended.wait(GIVEN_UP)


def serve(port):
    options = [
        ("grpc.http2.min_ping_interval_without_data_ms", 100),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 100),
        ("grpc.max_receive_message_length", 2**24),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(50), options=options)
    server.add_generic_rpc_handlers([Handlers()])
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    server.wait_for_termination()


class Client:
    def __init__(self, target, options=()):
        options = [("grpc.max_receive_message_length", 2**24), *options]
        self.channel = grpc.insecure_channel(target, options=options)

    def of(self, kind, method):
        return getattr(self.channel, kind)(f"/test.Calls/{method}", plain, plain)


def unary_calls(client):
    metadata = [("x-text", "a  b"), ("x-some-bin", b"\0\1\xff"), ("x-text", "twice")]
    method = client.of("unary_unary", "Unary")
    for request, compression in [(b"hello", None), (LARGE, None), (LARGE, grpc.Compression.Gzip), (b"", None)]:
        answer, call = method.with_call(request, metadata=metadata, timeout=20, compression=compression)
        seen = [list(part) for part in (call.initial_metadata(), call.trailing_metadata())]
        print(answer, call.code(), call.details(), [sorted(map(tuple, part)) for part in seen])
    calls = [method.future(b"many", timeout=20) for _ in range(100)]
    print(len({call.result() for call in calls}))


def failing_calls(client):
    for name in ["Fail", "None"]:
        try:
            client.of("unary_unary", name)(b"of it", timeout=20)
        except grpc.RpcError as error:
            print(error.code(), error.details(), [tuple(item) for item in error.trailing_metadata()])


def streaming_calls(client):
    numbers = list(client.of("unary_stream", "Count")(b"5000", timeout=20))
    print(len(numbers), numbers[-1])
    print(client.of("stream_unary", "Collect")((LARGE[:1000] for _ in range(2000)), timeout=20))
    # One message at a time: each answer comes before the next request is sent.
    answered = threading.Semaphore(1)

    def requests():
        for number in range(200):
            answered.acquire()
            yield b"%d" % number

    answers = []
    for answer in client.of("stream_stream", "Echo")(requests(), timeout=20):
        answers.append(answer)
        answered.release()
    print(len(answers), answers[-1])
    large = client.of("stream_stream", "Echo")((LARGE for _ in range(4)), timeout=20)
    print([len(answer) for answer in large])


def calls_that_end_early(client, name):
    silent = client.of("unary_stream", "Silent")
    for timeout in [None, 1]:
        call = silent(name.encode(), timeout=timeout)
        began = time.monotonic()
        try:
            print(next(call))
            if timeout is None:
                call.cancel()
            next(call)
        except grpc.RpcError as error:
            is_soon = time.monotonic() - began < GIVEN_UP / 2
            print(error.code(), error.details(), is_soon)
    for _ in range(100):
        call = client.of("unary_stream", "Count")(b"100000")
        next(call)
        call.cancel()
    print(client.of("unary_unary", "Unary")(b"after", timeout=20)[-2:])


def pinged_call(target):
    """A stream that is silent, on a connection with a ping each 200 ms."""
    pings = [("grpc.keepalive_time_ms", 200), ("grpc.keepalive_timeout_ms", 2000),
             ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0),
             ("grpc.http2.min_time_between_pings_ms", 100)]
    client, done = Client(target, pings), threading.Event()

    def requests():
        yield b"one"
        done.wait(1.5)
        yield b"two"

    print(list(client.of("stream_stream", "Echo")(requests())))


def main():
    if sys.argv[1] == "serve":
        return serve(sys.argv[2])
    target, name = sys.argv[1:]
    client = Client(target)
    unary_calls(client)
    failing_calls(client)
    streaming_calls(client)
    calls_that_end_early(client, name)
    pinged_call(target)


main()
