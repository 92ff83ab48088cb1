"""What is on this machine and in which state."""
