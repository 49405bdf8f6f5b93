"""Real parts for the tests: a gateway, a launcher, processes."""
