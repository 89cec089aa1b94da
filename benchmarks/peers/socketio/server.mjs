/**
 * Socket.IO as its documentation has it for speed: WebSocket only, no compression, native masking, and the request of
 * a handshake let go. It keeps nothing: an acknowledgement says that a message has arrived in memory.
 *
 * Standard output tells one line: the port, and the versions.
 */

import { createRequire } from "node:module";
import { createServer } from "node:http";
import { Server } from "socket.io";

const read = createRequire(import.meta.url);
const AGENT = "agent";

const http = createServer(answer);
const io = new Server(http, {
    transports: ["websocket"],
    perMessageDeflate: false,
    httpCompression: false,
    serveClient: false,
});

/** What happens over HTTP: publications, one by one (`/publish/CHANNEL`) or many (`/publish`, pairs). */
async function answer(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = JSON.parse(Buffer.concat(chunks).toString());
    const channel = request.url.slice("/publish/".length);
    for (const [room, payload] of channel ? [[channel, body]] : body) io.to(room).emit("message", payload);
    response.writeHead(204).end();
}

let taken = 0;

// In a middleware, so that a client is in its room before it is told that it is connected.
io.use((socket, next) => {
    const { channel } = socket.handshake.auth;
    if (channel) socket.join(channel);
    next();
});

io.on("connection", (socket) => {
    socket.on("message", (payload, acknowledge) => acknowledge("ok", ++taken));
    socket.on("ask", (question) => io.to(AGENT).emit("question", socket.id, question));
    socket.on("answer", (asker, words) => io.to(asker).emit("answer", words));
});
io.engine.on("connection", (connection) => {
    connection.request = null;
});

http.keepAliveTimeout = 0;
http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
    const version = `${read("socket.io/package.json").version} (ws ${read("ws/package.json").version}, Node ${process.version})`;
    console.log(JSON.stringify({ port: http.address().port, version }));
});
