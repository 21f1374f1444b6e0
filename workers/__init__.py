"""What happens to a batch of frames: reassembly, HTTP, events. Runs in processes of its own, one per shard."""
