"""Container engines of Debian's packages for tests: unpacked, not installed, apart from the machine's own."""
