"""Workers as jobs of a batch system, without a gateway."""
