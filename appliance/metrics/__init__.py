"""Prometheus metrics: families over the stats pages, and the HTTP server that exposes them."""
