"""What every HTTP program of ours shares: errors and bounded bodies."""
