"""One file for each command of `appliance`."""
