"""The model: multi-subject, layout-guided image personalisation on SDXL (MS-Diffusion, ICLR 2025).

Importing this package loads nothing; ``ms_core.spec`` and ``ms_core.errors`` stay free of torch.
"""
