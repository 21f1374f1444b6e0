"""Forwarding of events to NATS JetStream or Kafka, at least once each."""
