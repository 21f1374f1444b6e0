"""libpcap: live and offline handles, filters, devices, capture files."""
