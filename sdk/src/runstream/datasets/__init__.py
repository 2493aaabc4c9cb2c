"""Data sets of torch, numpy, pandas, Hugging Face and tensorflow: what is known of them without reading them. Libraries are recognised where they are loaded, and never imported."""
