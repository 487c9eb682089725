"""How good is a world model: frame metrics, latent-action metrics, the state-probe judge, policy agreement."""
