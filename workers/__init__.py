"""The worker half: reassembly, HTTP and events of a batch of frames. Runs in its own processes, one per shard."""
