"""Choosing the pair: from a catalogue, for an area and the day of an event."""
