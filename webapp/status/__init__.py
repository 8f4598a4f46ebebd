"""The System Status page, its JSON and metrics, the probes, and the command that migrates."""
