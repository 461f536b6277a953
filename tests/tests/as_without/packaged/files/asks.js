// A server and clients of Node's own library: `serve HTTP_PORT`, or `SERVER PORT`.
const http = require("http");
const http2 = require("http2");
const net = require("net");
const crypto = require("crypto");

const [first, second] = process.argv.slice(2);
const print = (...words) => console.log(...words);
const read = async (stream) => {
  let text = "";
  for await (const part of stream) text += part;
  return text;
};

// HTTP/1.1 with an echo by upgrade, as WebSocket begins.
function serve(port) {
  const server = http.createServer(async (request, response) => {
    const body = await read(request);
    response.setHeader("Trailer", "X-Length");
    response.write(`${request.method} ${request.url} from ${request.socket.remoteAddress} `);
    response.addTrailers({ "X-Length": body.length });
    response.end(`${body.length} ${request.headers["x-case"]}\n`);
  });
  server.on("upgrade", (request, socket, head) => {
    const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const key = crypto.createHash("sha1").update(request.headers["sec-websocket-key"] + guid);
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Accept: ${key.digest("base64")}\r\n\r\n`);
    socket.write(head);
    socket.pipe(socket);
  });
  server.listen(port);
}

const ask = (options, body) => new Promise((resolve) => {
  const request = http.request(options, async (response) => {
    const text = (await read(response)).trim();
    resolve(`${response.statusCode} ${text} ${request.reusedSocket}`);
  });
  request.on("error", (error) => resolve(error.code));
  request.end(body);
});

async function requests(host, port) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const options = (path, method) =>
    ({ host, port, path, method, agent, headers: { "X-Case": "Mixed" } });
  print(await ask(options("/get", "GET")));
  print(await ask(options("/post", "POST"), "a".repeat(1e6)));
  print(await ask({ ...options("/delete", "DELETE"), timeout: 5000 }));
  agent.destroy();
}

const upgrade = (host, port) => new Promise((resolve) => {
  const headers = { Connection: "Upgrade", Upgrade: "websocket",
    "Sec-WebSocket-Version": 13, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" };
  http.get({ host, port, path: "/socket", headers }).on("upgrade", async (response, socket) => {
    print(response.statusCode, response.headers["sec-websocket-accept"], response.headers.upgrade);
    socket.write("hello ");
    socket.end("and goodbye");
    print(await read(socket));
    resolve();
  });
});

const connection = (host, port) => new Promise((resolve) => {
  const socket = net.connect(port, host, async () => {
    socket.end("GET /net HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n");
    const text = await read(socket);
    print(text.split("\r\n\r\n")[1].split("\r\n")[1], socket.remoteAddress);
    resolve();
  });
  socket.on("error", (error) => resolve(print(error.code)));
});

async function clients(host, port) {
  await requests(host, port);
  await upgrade(host, port);
  await connection(host, port);
  process.exit(0);
}

if (first === "serve") serve(second);
else clients(first, second);
