"""Does it work here? Every part in order, each with a hint where it does not."""
