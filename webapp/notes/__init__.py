"""A note: the smallest thing a site can keep. Shows migrations and writes at work."""
