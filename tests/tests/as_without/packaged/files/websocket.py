"""A server and a client of the library websockets: `serve PORT`, or `SERVER PORT`."""

import asyncio
import sys

import websockets


async def answer(connection, path):
    """Echoes, and does what the path says."""
    peer = connection.remote_address[0].removeprefix("::ffff:")
    await connection.send(f"{path} from {peer} {connection.subprotocol} {len(connection.extensions)}")
    if path == "/end":
        return await connection.close(4001, "enough")
    async for message in connection:
        await connection.send(message)
    await connection.wait_closed()
    print(path.strip("/"), connection.close_code, connection.close_reason, flush=True)


async def serve(port):
    async with websockets.serve(answer, None, port, subprotocols=["chat"], max_size=2**24):
        await asyncio.Future()


def report(connection):
    print(connection.close_code, connection.close_reason)


async def call(url, name):
    options = {"subprotocols": ["none", "chat"], "max_size": 2**24}
    async with websockets.connect(f"{url}/{name}", **options) as connection:
        print(await connection.recv())
        # Text, binary, nothing, in fragments, and large.
        for message in ["hello", b"\0\1\2", "", bytes(range(256)) * 8192]:
            await connection.send(message)
            print(await connection.recv() == message)
        await connection.send(part for part in ["in ", "three ", "parts"])
        print(await connection.recv())
        await (await connection.ping())
        await asyncio.sleep(0.3)
        await connection.send("on")
        print(await connection.recv())
    report(connection)
    async with websockets.connect(f"{url}/end", **options) as connection:
        await connection.recv()
        await connection.wait_closed()
    report(connection)
    several = [websockets.connect(f"{url}/{name}", **options) for _ in range(20)]
    several = await asyncio.gather(*several)
    for connection in several:
        await connection.send("a")
    for connection in several:
        await connection.recv()
        print(await connection.recv())
        await connection.close(1000, "away")


def main():
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
    else:
        asyncio.run(call(f"ws://{sys.argv[1]}:{sys.argv[2]}", sys.argv[3]))


main()
