"""Events: their schema, and the encoder that writes transactions as JSON lines."""
