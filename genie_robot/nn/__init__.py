"""Building blocks that all three networks share."""
