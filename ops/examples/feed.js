// The feed in JavaScript: prints every event in order, asks again for what it missed, and says on standard error what
// is gone for good.
//
//   npm install zeromq
//   node feed.js tcp://127.0.0.1:5556 http.5xx. tcp://127.0.0.1:5557

const zmq = require("zeromq");

const [endpoint = "tcp://127.0.0.1:5556", wanted = "http.", past = "tcp://127.0.0.1:5557"] = process.argv.slice(2);
const feed = new zmq.Subscriber({ maxMessageSize: 64 << 20 });
const replay = new zmq.Dealer({ maxMessageSize: 64 << 20, receiveTimeout: 5000 });
const next = new Map(); // by topic: the sequence that must come
let current; // the run of the feed that the sequences belong to

function print(body) {
  for (const line of body.toString().split("\n")) console.log(line);
}

function lost(topic, from, to) {
  console.error(`lost ${BigInt(to) - BigInt(from) + 1n} messages of ${topic}`);
}

// Sequences and epochs have 64 bits: they are BigInt here, and written into the question as they are.
async function recover(topic, epoch, from, to) {
  await replay.send(["", `{"topic": "${topic}", "epoch": ${epoch}, "from": ${from}, "to": ${to}}`]);
  try {
    for (;;) {
      const [, ...parts] = await replay.receive();
      const word = parts.length === 1 ? JSON.parse(parts[0]) : undefined;
      if (!word) print(parts[2]);
      else if (word.gone) lost(topic, word.gone.from, word.gone.to);
      else if (word.end) return;
    }
  } catch (error) {
    lost(topic, from, to); // nobody answers, or not to the end
  }
}

// Everything before `sequence` must have come.
async function expect(topic, epoch, sequence) {
  if (next.has(topic) && sequence > next.get(topic)) await recover(topic, epoch, next.get(topic), sequence - 1n);
}

async function main() {
  feed.subscribe(wanted, "heartbeat.");
  feed.connect(endpoint);
  replay.connect(past);
  for await (const [name, header, body] of feed) {
    const topic = name.toString();
    const epoch = header.readBigUInt64BE(0);
    const sequence = header.readBigUInt64BE(8);
    if (epoch !== current) {
      next.clear();
      current = epoch;
    }
    if (topic === "heartbeat.") {
      for (const [known, last] of Object.entries(JSON.parse(body).last)) {
        if (!known.startsWith(wanted)) continue;
        await expect(known, epoch, BigInt(last) + 1n);
        next.set(known, BigInt(last) + 1n);
      }
    } else {
      await expect(topic, epoch, sequence);
      next.set(topic, sequence + 1n);
      print(body);
    }
  }
}

main();
