"""Models: graph hypernetwork (GHN), weight patch tokenizer and diffusion transformer."""
