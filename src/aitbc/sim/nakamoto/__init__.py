"""Engines of agreement by work under virtual time, with opaque blocks: one seed, one run."""
