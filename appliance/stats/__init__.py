"""Counters: their names, the pages in shared memory that hold them, and the ledger that balances them."""
