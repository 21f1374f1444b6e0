"""The protocol between feed and subscribers: messages, topics, heartbeats, replay requests, CURVE keys."""
