// The feed in JavaScript: prints every event, and says on standard error what was lost, also at the tail of a quiet
// feed, from its heartbeats.
//
//   npm install zeromq
//   node feed.js tcp://127.0.0.1:5556 http.5xx.

const zmq = require("zeromq");

const [endpoint = "tcp://127.0.0.1:5556", wanted = "http."] = process.argv.slice(2);
const next = new Map(); // by topic: the sequence that must come
let current;

// Everything before `sequence` must have come; `after` is what comes next.
function expect(topic, sequence, after) {
  if (next.has(topic) && sequence > next.get(topic)) {
    console.error(`lost ${sequence - next.get(topic)} messages of ${topic}`);
  }
  next.set(topic, after);
}

async function main() {
  const socket = new zmq.Subscriber({ maxMessageSize: 64 << 20 });
  socket.subscribe(wanted, "heartbeat.");
  socket.connect(endpoint);
  for await (const [name, header, body] of socket) {
    const topic = name.toString();
    const epoch = header.readBigUInt64BE(0);
    const sequence = header.readBigUInt64BE(8);
    if (epoch !== current) {
      next.clear();
      current = epoch;
    }
    if (topic === "heartbeat.") {
      for (const [known, last] of Object.entries(JSON.parse(body).last)) {
        if (known.startsWith(wanted)) expect(known, BigInt(last) + 1n, BigInt(last) + 1n);
      }
      continue;
    }
    expect(topic, sequence, sequence + 1n);
    for (const line of body.toString().split("\n")) console.log(line);
  }
}

main();
