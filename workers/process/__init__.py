"""The worker process: batches in, events out, and the batch that killed a worker set aside."""
