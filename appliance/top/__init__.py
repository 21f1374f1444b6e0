"""`appliance top`: a live view of a running instance."""
