"""Clients of Python's own library: `NAME SERVER PORT`."""

import asyncio
import hashlib
import http.client
import sys
import urllib.error
import urllib.request


def connection(server, port):
    """One connection: bodies of a known length, of chunks, and none, and large ones."""
    client = http.client.HTTPConnection(server, port, timeout=20)
    for method, body in [("GET", None), ("POST", b"a" * 100_000), ("POST", (b"b" * 1000 for _ in range(100)))]:
        client.request(method, "/python?a=b%20c", body, {"X-Mixed-Case": "1"})
        response = client.getresponse()
        print(response.status, response.reason, response.version, response.read().decode().strip())
    client.request("GET", "/large")
    print(hashlib.sha256(client.getresponse().read()).hexdigest())


def urllib_(server, port):
    print(urllib.request.urlopen(f"http://{server}:{port}/python").read().decode().strip())
    print(urllib.request.urlopen(f"http://{server}:{port}/moved").read().decode().strip())
    try:
        urllib.request.urlopen(f"http://{server}:{port}/large/none")
    except urllib.error.HTTPError as error:
        print(error.code, error.reason)


async def stream(server, port, number):
    reader, writer = await asyncio.open_connection(server, port)
    writer.write(f"GET /python/{number} HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n".encode())
    text = await reader.read()
    writer.close()
    await writer.wait_closed()
    return text.split(b"\r\n\r\n")[1].decode().strip()


async def streams(server, port):
    for text in await asyncio.gather(*(stream(server, port, number) for number in range(20))):
        print(text)


connection(sys.argv[1], sys.argv[2])
urllib_(sys.argv[1], sys.argv[2])
asyncio.run(streams(sys.argv[1], sys.argv[2]))
