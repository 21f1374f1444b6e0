"""Files out of bodies: the process that keeps them, and its folder."""
