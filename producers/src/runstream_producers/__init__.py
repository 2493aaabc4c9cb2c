"""Journal, shipper, node agent and hardware sampling of Runstream."""
