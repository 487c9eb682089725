"""Training: one loop for the three stages."""
