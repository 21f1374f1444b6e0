"""Options: their sections, how files and command lines become a Config, and its way to the child processes."""
