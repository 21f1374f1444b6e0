import json, struct, zmq

socket = zmq.Context().socket(zmq.SUB)
socket.connect("tcp://127.0.0.1:5556")
socket.subscribe(b"http.")
while True:
    topic, header, body = socket.recv_multipart()
    epoch, sequence, events = struct.unpack(">QQQ", header)
    for line in body.splitlines():
        print(topic.decode(), sequence, json.loads(line)["http"].get("response", {}).get("status_code"))
