"""The three networks of Genie and the folder that bundles them."""
