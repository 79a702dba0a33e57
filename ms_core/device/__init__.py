"""Which device, how much memory, and which part of the model is where."""
