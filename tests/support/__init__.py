"""What several tests need: named keys, a chain without a node, signed transactions."""
