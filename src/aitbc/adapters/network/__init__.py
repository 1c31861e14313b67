"""Connections between nodes: over TCP, and in memory."""
