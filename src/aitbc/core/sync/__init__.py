"""Catching up with a chain that is far ahead: certificates first, then blocks from several peers. docs/spec/sync.md"""
