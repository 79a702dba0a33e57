"""The model: multi-subject, layout-guided image personalisation on SDXL (MS-Diffusion, ICLR 2025).

Importing this package loads nothing; ``ms_core.spec`` and ``ms_core.errors`` stay free of torch. It lets idle threads of
torch sleep, unless ``OMP_WAIT_POLICY`` says otherwise; torch reads that when it loads, so import it first.
"""

import os

# By default they spin, and a picture beside one busy program takes many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
