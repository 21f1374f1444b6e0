"""A run in words: its status, losses and table of transactions, and a way to find a running instance."""
