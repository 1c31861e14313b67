"""What a program tells its operator."""
