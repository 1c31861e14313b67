"""Agreement: events in, effects out."""
