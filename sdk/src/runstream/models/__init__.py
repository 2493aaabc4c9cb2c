"""Models of torch, keras, scikit-learn and jax: what is known of them, and how they are saved. Libraries are recognised where they are loaded, and never imported."""
