"""Generation of frames by iterative unmasking."""
