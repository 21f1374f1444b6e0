"""Subscribers of a feed: messages in order, gaps reported, missed messages requested again."""
