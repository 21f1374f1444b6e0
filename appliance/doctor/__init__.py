"""`appliance doctor`: checks of host, interface and running instance, each with what to do."""
