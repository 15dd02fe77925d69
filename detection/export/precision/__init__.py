"""An end-to-end graph in float16 or in 8-bit integers: the network alone is converted, the rest stays as it is."""
