"""A simulated fleet of ranks that logs through the real journals and the real agent."""
