"""State that every part of a worker shares: limits, counters, the clock of the frames, budgets."""
