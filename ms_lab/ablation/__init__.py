"""The paper's ablation on the small model: the method with one part left out at a time, trained alike and measured alike."""
