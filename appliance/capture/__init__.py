"""The capture process: it reads frames from an interface or a file and shards them over the workers."""
