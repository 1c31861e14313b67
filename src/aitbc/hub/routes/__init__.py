"""HTTP routes of the hub, one file per group."""
