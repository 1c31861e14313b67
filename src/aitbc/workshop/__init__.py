"""The workshop profile: a node of seed 004's plain network, apart from everything of AITBC's own chain."""
