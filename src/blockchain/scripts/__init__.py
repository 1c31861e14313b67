"""Seed 001's names for two commands of `aitbc`; there is nothing else here."""
