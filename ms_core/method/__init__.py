"""The paper: subject tokens, masked cross-attention, where subjects act, and the checkpoint."""
