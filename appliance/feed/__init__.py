"""The feed process: it publishes the workers' events to subscribers and answers their replay questions."""
